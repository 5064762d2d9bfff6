// A label that is held: while frames for the classifier are recorded, it counts as long as the person holds it.

const AGAIN_MS = 100; // the recorder takes it for let go after 250

export class HeldLabel {
  #label = null;
  #timer = 0;

  /** @param {Function} say sends a label. */
  constructor(say) {
    this.say = say;
    window.addEventListener("blur", () => this.end());
    document.addEventListener("visibilitychange", () => this.end());
  }

  begin(label) {
    if (label === this.#label) return;
    this.end();
    this.#label = label;
    this.say(label);
    this.#timer = setInterval(() => this.say(label), AGAIN_MS);
  }

  /** Let go of this label, or of any. */
  end(label = this.#label) {
    if (label !== this.#label) return;
    this.#label = null;
    clearInterval(this.#timer);
  }
}
