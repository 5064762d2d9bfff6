// When to help: the critics disagree, or progress stalls. And when and where people helped so far.

import { byId, clearedContext, colour, make, number, say } from "./dom.js";
import { notify } from "./notices.js";

const BINS = 20;
const QUIET_MS = 60000; // between two notices of the cue

/** The thresholds: their words, the slider's range, and where they begin. */
const THRESHOLDS = {
  spread: { words: "the critics differ by more than", min: 0.02, max: 2, step: 0.02, decimals: 2, value: 0.3 },
  stalled: { words: "episodes without a success alone", min: 1, max: 100, step: 1, decimals: 0, value: 20 },
};

export class Ask {
  #cuedMs = -Infinity;
  #spread = null; // of the critics, by the learner's last record
  #alone = 0; // episodes since the policy last succeeded alone
  #steps = []; // [step of the episode, x, y] of the newest corrected steps of the run
  #count = 0; // of all of them
  #early = null; // records that came while the past was on its way

  constructor(store, api) {
    this.store = store;
    this.api = api;
    this.cue = make("p", { className: "cue", textContent: "No help needed.", id: "cue" });
    this.words = make("p", { className: "quiet" });
    this.whenCanvas = make("canvas", { className: "wide", "aria-label": "corrected steps over an episode" });
    this.whereCanvas = make("canvas", {
      className: "wide tall",
      "aria-label": "where the tool was corrected, from above",
    });
    const panel = (title, ...parts) =>
      make("div", { className: "panel" }, make("h2", { textContent: title }), ...parts);
    this.limits = Object.fromEntries(Object.keys(THRESHOLDS).map((name) => [name, slider(name, () => this.#judge())]));
    byId("ask").append(
      panel("Help now?", this.cue, ...Object.values(this.limits).map(({ row }) => row)),
      panel("When people helped, from an episode's start to its time limit", this.whenCanvas, this.words),
      panel("Where, from above", this.whereCanvas),
    );
    store.on("metrics", ({ records }) => {
      this.#early?.push(...records);
      records.forEach((record) => this.#take(record));
      this.#judge();
    });
  }

  /** Fetch what the run's files say so far: nothing of it is this tab's alone. */
  async load() {
    if (this.#early !== null) return;
    this.#early = [];
    try {
      const { corrected, count, spread, episodes_not_alone } = await this.api.json("help");
      [this.#steps, this.#count, this.#spread, this.#alone] = [corrected, count, spread, episodes_not_alone];
      this.#early.forEach((record) => this.#take(record));
      this.#judge();
      this.redraw();
    } catch (error) {
      say(this.words, `Not known: ${error.message}`);
    } finally {
      this.#early = null;
    }
  }

  redraw() {
    this.#drawWhen();
    this.#drawWhere();
    const shown = this.#count > this.#steps.length ? `, the last ${this.#steps.length} of them shown` : "";
    say(this.words, `${this.#count} corrected steps in this run${shown}`);
  }

  #take(record) {
    if (Number.isFinite(record.q_std)) this.#spread = record.q_std;
    if (record.kind !== "episode") return;
    this.#alone = record.is_success && !record.intervention_rate ? 0 : this.#alone + 1;
  }

  #judge() {
    const reasons = [];
    if (this.#spread > this.limits.spread.value) reasons.push(`the critics differ by ${number(this.#spread, 2)}`);
    if (this.#alone >= this.limits.stalled.value) reasons.push(`no success alone in ${this.#alone} episodes`);
    const isNeeded = reasons.length > 0;
    this.cue.classList.toggle("on", isNeeded);
    byId("tab-ask").classList.toggle("asking", isNeeded);
    const now = this.#spread === null ? "" : ` The critics differ by ${number(this.#spread, 2)}.`;
    say(this.cue, isNeeded ? `Help now: ${reasons.join("; ")}.` : `No help needed.${now}`);
    if (isNeeded && performance.now() - this.#cuedMs > QUIET_MS) {
      this.#cuedMs = performance.now();
      notify("warning", `Help now: ${reasons.join("; ")}.`);
    }
  }

  #drawWhen() {
    const { context, width, height } = clearedContext(this.whenCanvas);
    const limit = this.store.get("hello")?.task?.time_limit_steps ?? 100;
    const bins = new Array(BINS).fill(0);
    for (const [step] of this.#steps) bins[Math.min(BINS - 1, Math.floor((BINS * step) / limit))] += 1;
    const most = Math.max(1, ...bins);
    bins.forEach((count, i) => {
      const left = (i * width) / BINS;
      context.fillStyle = colour("grid");
      context.fillRect(left, 0, width / BINS - 2, height);
      context.fillStyle = colour("human");
      context.fillRect(left, height * (1 - count / most), width / BINS - 2, (height * count) / most);
    });
  }

  #drawWhere() {
    const { context, width, height } = clearedContext(this.whereCanvas);
    const box = this.store.get("hello")?.box;
    if (!box) return;
    const [deep, wide] = [0, 1].map((axis) => box.high_m[axis] - box.low_m[axis]);
    const scale = Math.min((width - 16) / wide, (height - 16) / deep);
    const right = (y) => width / 2 - scale * (y - (box.low_m[1] + box.high_m[1]) / 2);
    const down = (x) => height / 2 - scale * (x - (box.low_m[0] + box.high_m[0]) / 2);
    context.strokeStyle = colour("limit");
    context.strokeRect(right(box.high_m[1]), down(box.high_m[0]), scale * wide, scale * deep);
    context.fillStyle = colour("human");
    context.globalAlpha = 0.35;
    for (const [, x, y] of this.#steps) {
      context.beginPath();
      context.arc(right(y), down(x), 2.5, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }
}

/** Return a slider for a threshold, which this browser keeps: {row, value}. */
function slider(name, changed) {
  const { words, min, max, step, decimals, value } = THRESHOLDS[name];
  const key = `serl.console.ask.${name}`;
  const input = make("input", { type: "range", min, max, step, id: `ask-${name}` });
  input.value = localStorage.getItem(key) ?? value;
  const output = make("output", { textContent: number(input.valueAsNumber, decimals) });
  const threshold = {
    row: make("div", { className: "row" }, make("label", {}, `${words} `, input, " ", output)),
    value: input.valueAsNumber,
  };
  input.addEventListener("input", () => {
    threshold.value = input.valueAsNumber;
    localStorage.setItem(key, input.value);
    say(output, number(threshold.value, decimals));
    changed();
  });
  return threshold;
}
