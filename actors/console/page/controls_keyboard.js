// Keys: WASD and RF move, QE and the arrows turn, shift is fine.

const AXES = {
  KeyW: [0, 1],
  KeyS: [0, -1],
  KeyA: [1, 1],
  KeyD: [1, -1],
  KeyR: [2, 1],
  KeyF: [2, -1],
  ArrowLeft: [3, -1],
  ArrowRight: [3, 1],
  ArrowUp: [4, 1],
  ArrowDown: [4, -1],
  KeyQ: [5, 1],
  KeyE: [5, -1],
};

/** Return whether keys pressed now are text for a field. */
export function isTyping(target) {
  if (!(target instanceof Element)) return false;
  if (target.isContentEditable || target.tagName === "TEXTAREA") return true;
  return target.tagName === "INPUT" && /^(text|number|search|password|email|url)$/.test(target.type);
}

/** Return whether a control needs this key for itself: arrows on a slider, letters on a list. */
function isForControl(event) {
  const target = event.target;
  if (!(target instanceof Element)) return false;
  if (target.tagName === "SELECT") return true;
  return event.code.startsWith("Arrow") && target.matches("input[type=range], [role=tab], [role=log]");
}

export class Keyboard {
  name = "keyboard";
  isOn = true;
  #held = new Set();
  #isFine = false;

  /** @param {{changed: Function, pressed: Function, lost: Function}} commander */
  constructor(commander) {
    this.commander = commander;
  }

  listen(target = window) {
    target.addEventListener("keydown", (event) => this.#down(event));
    target.addEventListener("keyup", (event) => this.#up(event));
    target.addEventListener("blur", () => this.#leave());
  }

  read() {
    const intent = [0, 0, 0, 0, 0, 0];
    for (const code of this.#held) intent[AXES[code][0]] += AXES[code][1];
    return { intent, isEngaged: this.#held.size > 0, isFine: this.#isFine };
  }

  release() {
    this.#held.clear();
  }

  #down(event) {
    this.#isFine = event.shiftKey;
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (this.#held.size) this.#leave(); // some systems never report the release of a key held with those
      return;
    }
    if (!this.isOn || isTyping(event.target) || isForControl(event)) return;
    if (event.code in AXES) {
      event.preventDefault(); // arrows would scroll
      if (event.repeat || this.#held.has(event.code)) return;
      this.#held.add(event.code);
      this.commander.changed();
      return;
    }
    const press = { KeyG: "gripper", KeyH: "hand_back", KeyT: "keep" }[event.code];
    if (press && !event.repeat) this.commander.pressed(press);
  }

  #up(event) {
    this.#isFine = event.shiftKey;
    if (this.#held.delete(event.code)) this.commander.changed();
  }

  /** The window loses the keys: their release will not be heard. That is no way to hand back. */
  #leave() {
    if (this.#held.size) this.commander.lost("the window lost the keyboard");
    this.#held.clear();
  }
}
