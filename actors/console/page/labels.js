// Success, failure, discard; a veto while it still counts; pause and resume.

import { isTyping } from "./controls_keyboard.js";
import { byId, say as show } from "./dom.js";
import { HeldLabel } from "./held_label.js";
import { notify } from "./notices.js";
import { awaitsPerson } from "./state.js";

const VETO_MS = 1000;
const LABELS = { success: "Digit1", failure: "Digit2", discard: "Digit3" };

export function armLabels(store, send) {
  const press = (message, text) => {
    if (!send(message)) notify("error", `${text}: no connection, nothing was sent`);
  };
  const keys = armLabelButtons(store, press);
  keys.set("KeyV", armVeto(store, press));
  keys.set("KeyP", armPause(store, press));
  window.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (event.target instanceof HTMLSelectElement) return;
    keys.get(event.code)?.();
  });
}

/** Return what each label's key does. Of frames a label is held, of an episode it is said once. */
function armLabelButtons(store, press) {
  const say = (label) => press({ kind: "label", label }, `Label ${label}`);
  const held = new HeldLabel(say);
  const isHeld = (label) => label !== "discard" && store.get("recording")?.what === "classifier";
  const keys = new Map();
  const released = new Map();
  for (const [label, code] of Object.entries(LABELS)) {
    const button = byId(`label-${label}`);
    button.addEventListener("pointerdown", () => isHeld(label) && held.begin(label));
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      button.addEventListener(end, () => held.end(label));
    }
    button.addEventListener("click", (event) => {
      if (!isHeld(label) || event.detail === 0) say(label); // 0: pressed by a key, so no pointer has said it
    });
    keys.set(code, () => (isHeld(label) ? held.begin(label) : say(label)));
    released.set(code, () => held.end(label));
  }
  window.addEventListener("keyup", (event) => released.get(event.code)?.());
  store.on("recording", (recording) => {
    const isOfFrames = recording?.what === "classifier";
    if (!isOfFrames) held.end();
    byId("label-hint").hidden = !isOfFrames;
    show(byId("label-title"), isOfFrames ? "Label frames" : "Label this episode");
  });
  return keys;
}

function armVeto(store, press) {
  const button = byId("veto");
  const words = byId("claim");
  let claimed = null; // the success that can still be denied
  let timer = 0;
  const close = () => {
    claimed = null;
    button.disabled = true;
    button.classList.remove("open");
  };
  const veto = () => {
    if (claimed === null) return;
    press({ kind: "veto", session: claimed.session, episode: claimed.episode }, "Veto");
    show(words, `Episode ${claimed.episode}: veto sent.`);
    close();
  };
  button.addEventListener("click", veto);
  store.on("step", (step) => {
    if (!step.may_veto) return;
    claimed = { session: step.session, episode: step.episode };
    const share = step.success_probability == null ? "" : ` (${(100 * step.success_probability).toFixed(0)} %)`;
    show(words, `Episode ${step.episode}: success claimed${share}.`);
    button.disabled = false;
    button.classList.remove("open");
    void button.offsetWidth; // starts the shrinking bar anew
    button.classList.add("open");
    clearTimeout(timer);
    timer = setTimeout(close, VETO_MS);
  });
  return veto;
}

function armPause(store, press) {
  const button = byId("pause");
  const isPaused = () => store.get("control") === "paused" || awaitsPerson(store);
  const toggle = () => press({ kind: isPaused() ? "resume" : "pause" }, "Pause");
  button.addEventListener("click", toggle);
  for (const name of ["control", "step"]) store.on(name, () => show(button, isPaused() ? "Resume" : "Pause"));
  return toggle;
}
