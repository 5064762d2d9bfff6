// Two sticks and two buttons under the fingers.

import { beyondDeadZone } from "./intent.js";

class Stick {
  value = [0, 0]; // up, left; in [-1, 1]
  #pointer = null;

  constructor(element, changed, lost) {
    this.element = element;
    this.knob = element.querySelector("i");
    element.addEventListener("pointerdown", (event) => {
      if (this.#pointer !== null) return;
      this.#pointer = event.pointerId;
      element.setPointerCapture(event.pointerId);
      this.#move(event);
      changed();
    });
    element.addEventListener("pointermove", (event) => {
      if (event.pointerId !== this.#pointer) return;
      this.#move(event);
      changed();
    });
    const end = (event) => {
      if (event.pointerId !== this.#pointer) return;
      this.release();
      event.type === "pointercancel" ? lost() : changed();
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
  }

  get isHeld() {
    return this.#pointer !== null;
  }

  release() {
    this.#pointer = null;
    this.value = [0, 0];
    this.knob.style.translate = "";
  }

  #move(event) {
    const box = this.element.getBoundingClientRect();
    const radius = box.width / 2;
    let [x, y] = [(event.clientX - box.left) / radius - 1, (event.clientY - box.top) / radius - 1];
    const length = Math.max(1, Math.hypot(x, y));
    [x, y] = [x / length, y / length];
    this.value = [-y, -x];
    this.knob.style.translate = `${(x * radius * 0.6).toFixed(1)}px ${(y * radius * 0.6).toFixed(1)}px`;
  }
}

export class Touch {
  name = "touch";
  #lift = 0;

  /** @param {{changed: Function, lost: Function, deadZone: number}} commander */
  constructor(commander, root) {
    this.commander = commander;
    const changed = () => commander.changed();
    const lost = () => commander.lost("the touch was interrupted");
    this.move = new Stick(root.querySelector("#stick-move"), changed, lost);
    this.turn = new Stick(root.querySelector("#stick-turn"), changed, lost);
    this.#button(root.querySelector("#touch-up"), 1);
    this.#button(root.querySelector("#touch-down"), -1);
  }

  read() {
    const deadZone = this.commander.deadZone;
    const [forward, left] = this.move.value.map((axis) => beyondDeadZone(axis, deadZone));
    const [pitch, yaw] = this.turn.value.map((axis) => beyondDeadZone(axis, deadZone));
    const intent = [forward, left, this.#lift, 0, pitch, yaw];
    return { intent, isEngaged: this.move.isHeld || this.turn.isHeld || this.#lift !== 0, isFine: false };
  }

  release() {
    this.move.release();
    this.turn.release();
    this.#lift = 0;
  }

  #button(element, direction) {
    const set = (value) => (event) => {
      event.preventDefault();
      this.#lift = value;
      this.commander.changed();
    };
    element.addEventListener("pointerdown", set(direction));
    for (const type of ["pointerup", "pointercancel", "pointerleave"]) element.addEventListener(type, set(0));
  }
}
