// The panel for taking over: which devices, how fast, in which axes.

import { Commander } from "./commander.js";
import { Gamepad } from "./controls_gamepad.js";
import { Keyboard } from "./controls_keyboard.js";
import { Touch } from "./controls_touch.js";
import { SpaceMouse } from "./controls_webhid.js";
import { byId, say } from "./dom.js";
import { notify } from "./notices.js";

const KEY = "serl.console.steering";

export function armCorrect(store, send) {
  const commander = new Commander({
    send,
    onChange: () => showEngaged(commander),
    onLost: (reason) => notify("warning", `You no longer steer: ${reason}. Let go, then begin anew.`),
  });
  const keyboard = new Keyboard(commander);
  const gamepad = new Gamepad(commander);
  const spacemouse = new SpaceMouse(commander);
  const touch = new Touch(commander, byId("touch"));
  commander.sources = [keyboard, gamepad, spacemouse, touch];
  commander.isGripperOpen = () => (store.get("state")?.robot?.gripper ?? 1) >= 0.5;
  store.on("hello", ({ task }) => {
    commander.hasGripper = Boolean(task?.has_gripper);
    byId("gripper").disabled = !commander.hasGripper;
  });
  store.on("link", (link) => {
    if (link !== "open") commander.lost("the connection was cut");
  });
  keyboard.listen();
  armButtons(commander, keyboard);
  armDevices(spacemouse, gamepad, touch);
  armSettings(commander);
  commander.start();
  return commander;
}

function armButtons(commander, keyboard) {
  for (const [id, name] of [
    ["keep", "keep"],
    ["hand-back", "hand_back"],
    ["gripper", "gripper"],
  ]) {
    byId(id).addEventListener("click", () => commander.pressed(name));
  }
  const button = byId("keyboard");
  button.addEventListener("click", () => {
    keyboard.isOn = !keyboard.isOn;
    keyboard.release();
    button.setAttribute("aria-pressed", keyboard.isOn);
  });
}

function armDevices(spacemouse, gamepad, touch) {
  const button = byId("spacemouse");
  button.disabled = !spacemouse.hid;
  button.addEventListener("click", async () => {
    try {
      await spacemouse.choose();
    } catch (error) {
      notify("error", `SpaceMouse: ${error.message}`);
    }
  });
  spacemouse.resume().catch((error) => notify("error", `SpaceMouse: ${error.message}`));
  setInterval(() => {
    say(button, spacemouse.status);
    say(byId("gamepad"), gamepad.status);
  }, 500);
  const toggle = byId("touch-toggle");
  const show = (isShown) => {
    byId("touch").hidden = !isShown;
    byId("keys").hidden = isShown;
    toggle.setAttribute("aria-pressed", isShown);
    if (!isShown) touch.release();
  };
  toggle.addEventListener("click", () => show(byId("touch").hidden));
  show(matchMedia("(pointer: coarse)").matches || matchMedia("(max-width: 700px)").matches);
}

function armSettings(commander) {
  const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  const fields = { speed: byId("speed"), "dead-zone": byId("dead-zone"), frame: byId("frame"), side: byId("side") };
  const take = () => {
    commander.speed = fields.speed.valueAsNumber / 100;
    commander.deadZone = fields["dead-zone"].valueAsNumber / 100;
    commander.frame = fields.frame.value;
    commander.side = fields.side.value;
    say(byId("speed-value"), `${fields.speed.value} %`);
    say(byId("dead-zone-value"), `${fields["dead-zone"].value} %`);
    byId("side-label").hidden = commander.frame !== "base";
    const values = Object.entries(fields).map(([name, field]) => [name, field.value]);
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(values)));
  };
  for (const [name, field] of Object.entries(fields)) {
    if (kept[name] !== undefined) field.value = kept[name];
    field.addEventListener("input", take);
  }
  fields.frame.addEventListener("change", () => fields.frame.blur()); // the next letter is for the arm
  fields.side.addEventListener("change", () => fields.side.blur());
  take();
}

function showEngaged(commander) {
  byId("engaged").hidden = !commander.isEngaged;
  byId("takeover").classList.toggle("engaged", commander.isEngaged);
  byId("keep").setAttribute("aria-pressed", commander.keepsControl);
}
