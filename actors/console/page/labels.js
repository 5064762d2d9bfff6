// Success, failure, discard; a veto while it still counts; pause and resume.

import { isTyping } from "./controls_keyboard.js";
import { byId, say } from "./dom.js";
import { notify } from "./notices.js";

const VETO_MS = 1000;
const LABELS = { success: "Digit1", failure: "Digit2", discard: "Digit3" };

export function armLabels(store, send) {
  const press = (message, text) => {
    if (!send(message)) notify("error", `${text}: no connection, nothing was sent`);
  };
  const keys = new Map();
  for (const [label, code] of Object.entries(LABELS)) {
    const act = () => press({ kind: "label", label }, `Label ${label}`);
    byId(`label-${label}`).addEventListener("click", act);
    keys.set(code, act);
  }
  keys.set("KeyV", armVeto(store, press));
  keys.set("KeyP", armPause(store, press));
  window.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (event.target instanceof HTMLSelectElement) return;
    keys.get(event.code)?.();
  });
}

function armVeto(store, press) {
  const button = byId("veto");
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
    close();
  };
  button.addEventListener("click", veto);
  store.on("step", (step) => {
    if (!step.may_veto) return;
    claimed = { session: step.session, episode: step.episode };
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
  const isPaused = () => store.get("control") === "paused";
  const toggle = () => press({ kind: isPaused() ? "resume" : "pause" }, "Pause");
  button.addEventListener("click", toggle);
  store.on("control", () => say(button, isPaused() ? "Resume" : "Pause"));
  return toggle;
}
