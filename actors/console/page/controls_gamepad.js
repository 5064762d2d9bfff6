// A gamepad with the standard layout: left stick moves, triggers lift and lower, right stick turns, A is the gripper.

import { beyondDeadZone } from "./intent.js";

const A = 0,
  B = 1,
  Y = 3,
  LEFT_TRIGGER = 6,
  RIGHT_TRIGGER = 7,
  PAD_LEFT = 14,
  PAD_RIGHT = 15;

export class Gamepad {
  name = "gamepad";
  #wasDown = { gripper: false, hand_back: false };
  #index = null; // a pad counts once it was seen at rest

  /** @param {{pressed: Function, deadZone: number}} commander */
  constructor(commander, pads = () => navigator.getGamepads?.() ?? []) {
    this.commander = commander;
    this.pads = pads;
  }

  /** Return the pad in words for the page. */
  get status() {
    if (!navigator.getGamepads) return "no gamepads in this browser";
    const pad = this.#pad();
    if (!pad) return "no gamepad";
    if (pad.mapping !== "standard") return "gamepad of unknown layout";
    return pad.index === this.#index ? "gamepad ready" : "gamepad: let go of it";
  }

  read() {
    const none = { intent: [0, 0, 0, 0, 0, 0], isEngaged: false, isFine: false };
    const pad = this.#pad();
    if (!pad || pad.mapping !== "standard") {
      this.#index = null;
      return none;
    }
    const value = (index) => pad.buttons[index]?.value ?? 0;
    const raw = [
      -pad.axes[1],
      -pad.axes[0],
      value(RIGHT_TRIGGER) - value(LEFT_TRIGGER),
      value(PAD_RIGHT) - value(PAD_LEFT),
      -pad.axes[3],
      -pad.axes[2],
    ];
    const intent = raw.map((axis) => beyondDeadZone(axis, this.commander.deadZone));
    const isDeflected = intent.some((axis) => axis !== 0);
    if (this.#index !== pad.index) {
      if (isDeflected) return none;
      this.#index = pad.index;
    }
    this.#press("gripper", value(A) > 0.5);
    this.#press("hand_back", value(B) > 0.5);
    return { intent, isEngaged: isDeflected, isFine: value(Y) > 0.5 };
  }

  release() {
    this.#index = null;
  }

  #pad() {
    return Array.from(this.pads()).find((pad) => pad?.connected);
  }

  #press(name, isDown) {
    if (isDown && !this.#wasDown[name]) this.commander.pressed(name);
    this.#wasDown[name] = isDown;
  }
}
