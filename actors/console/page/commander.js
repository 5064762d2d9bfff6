// One stream of commands out of all devices: at 30 Hz while a person steers, and at once when something changes.
//
// It says only what a person at the controls wishes now. A tab that is hidden, or was frozen, says nothing: the actor
// then holds the arm and pauses, and the devices count again once they were let go.

import { merged, toTwist } from "./intent.js";

const PERIOD_MS = 1000 / 30;
const LEAST_GAP_MS = 20; // at most 50 a second
const RAMP_MS = 150; // a takeover grows from nothing: no jerk
const HOLD_MS = 500; // whoever lets go for less goes on without a new ramp
const TAIL_MS = 1000; // the end of a turn is told for so long, should a message get lost
const FROZEN_MS = 200; // as old as a command may be
const FINE = 0.25;

export class Commander {
  speed = 0.5;
  frame = "tool";
  side = "behind";
  deadZone = 0.1;
  keepsControl = false;
  hasGripper = false;
  isGripperOpen = () => true; // what the arm says
  sources = [];
  isEngaged = false;

  #sequence = Date.now(); // rises over reloads of the page too
  #sentMs = -Infinity;
  #tickMs = null;
  #engagedMs = -Infinity; // when a person last was
  #rampMs = 0;
  #gripper = null; // -1 closes, 1 opens; null leaves it alone
  #isLost = false; // until everything was let go
  #handsBack = false;
  #isPressed = false;

  /**
   * @param {{send: Function, onChange: Function, onLost: Function, now: Function}} options send returns whether
   *   the message left; onChange hears whether a person steers; onLost hears why input is not believed.
   */
  constructor(options) {
    this.now = () => performance.now();
    Object.assign(this, options);
  }

  start() {
    setInterval(() => this.#tick(), PERIOD_MS);
    document.addEventListener("visibilitychange", () => this.#look());
    document.addEventListener("freeze", () => this.lost("the tab was frozen"));
  }

  /** Something moved: say it now, not at the next tick. */
  changed() {
    if (this.now() - this.#sentMs >= LEAST_GAP_MS) this.#tick();
  }

  /** A button: "gripper", "hand_back" or "keep". */
  pressed(name) {
    if (name === "keep") this.keepsControl = !this.keepsControl;
    if (name === "hand_back") [this.#handsBack, this.keepsControl] = [true, false];
    if (name === "gripper" && this.hasGripper) {
      const isOpen = this.#gripper === null ? this.isGripperOpen() : this.#gripper > 0;
      this.#gripper = isOpen ? -1 : 1;
      this.#isPressed = true;
    }
    this.changed();
    this.onChange();
  }

  /** Input can no longer be believed: say nothing until everything was let go. */
  lost(reason) {
    if (!this.isEngaged) return;
    this.#isLost = true;
    this.keepsControl = false;
    this.isEngaged = false;
    this.#engagedMs = -Infinity;
    this.#gripper = null;
    for (const source of this.sources) source.release();
    this.onLost(reason);
    this.onChange();
  }

  #look() {
    if (document.visibilityState === "hidden") this.lost("the tab was hidden");
  }

  #tick() {
    const nowMs = this.now();
    const gapMs = this.#tickMs === null ? 0 : nowMs - this.#tickMs;
    this.#tickMs = nowMs;
    if (document.visibilityState === "hidden") return;
    if (gapMs > FROZEN_MS) this.lost(`the page stood still for ${(gapMs / 1000).toFixed(1)} s`);
    const readings = this.sources.map((source) => source.read(nowMs));
    const isDeflected = readings.some((reading) => reading.isEngaged);
    if (this.#isLost) {
      if (isDeflected) return;
      this.#isLost = false;
    }
    const isEngaged = isDeflected || this.keepsControl || this.#isPressed;
    this.#isPressed = false;
    if (isEngaged && nowMs - this.#engagedMs > HOLD_MS) this.#rampMs = nowMs;
    if (isEngaged) this.#engagedMs = nowMs;
    const wasEngaged = this.isEngaged;
    this.isEngaged = isEngaged;
    if (isEngaged !== wasEngaged) this.onChange();
    const sinceMs = nowMs - this.#engagedMs;
    if (sinceMs > HOLD_MS) this.#gripper = null;
    if (sinceMs <= TAIL_MS || this.#handsBack) this.#say(readings, nowMs);
  }

  #say(readings, nowMs) {
    const isFine = readings.some((reading) => reading.isFine);
    const ramp = Math.min(1, (nowMs - this.#rampMs + PERIOD_MS) / RAMP_MS);
    const gain = this.speed * (isFine ? FINE : 1) * ramp;
    const intent = merged(readings.map((reading) => reading.intent)).map((axis) => axis * gain);
    const isSent = this.send({
      kind: "teleop",
      sequence: ++this.#sequence,
      sent_ms: nowMs,
      twist: toTwist(intent, this.frame, this.side),
      frame: this.frame,
      gripper: this.#gripper,
      engaged: this.isEngaged,
      hands_back: this.#handsBack,
    });
    if (isSent) this.#handsBack = false;
    this.#sentMs = nowMs;
  }
}
