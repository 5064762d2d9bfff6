// The points of one run's curves: what the console kept, and what came since.

import { WANTED } from "./chart_list.js";

const MOST_LIVE = 1500; // then the history is asked for anew, down-sampled

export class Curves {
  #series = new Map(); // name -> {x, mean, min, max}
  #live = 0;
  #step = 0;

  /** Take the console's history: {name: {x, mean, min, max}}. */
  load(series) {
    this.#live = 0;
    this.#series.clear();
    for (const [name, { x, mean, min, max }] of Object.entries(series)) {
      if (!WANTED.has(name)) continue;
      this.#series.set(name, {
        x: x.slice(),
        mean: mean.slice(),
        min: (min ?? mean).slice(),
        max: (max ?? mean).slice(),
      });
      this.#step = Math.max(this.#step, x.at(-1) ?? 0);
    }
  }

  /** Take a line of the metrics. One without a step belongs to the newest. */
  add(record) {
    this.#step = Math.max(this.#step, record.env_steps ?? 0);
    for (const name of WANTED) {
      const value = record[name];
      if (Number.isFinite(value)) this.#put(name, this.#step, value);
    }
  }

  get isFull() {
    return this.#live > MOST_LIVE;
  }

  /** Return {x, mean, min, max} of a curve; empty when there is none. */
  get(name) {
    return this.#series.get(name) ?? { x: [], mean: [], min: [], max: [] };
  }

  #put(name, x, value) {
    if (!this.#series.has(name)) this.#series.set(name, { x: [], mean: [], min: [], max: [] });
    const curve = this.#series.get(name);
    if (curve.x.at(-1) >= x) {
      for (const part of ["mean", "min", "max"]) curve[part][curve.x.length - 1] = value;
      return;
    }
    curve.x.push(x);
    for (const part of ["mean", "min", "max"]) curve[part].push(value);
    this.#live += 1;
  }
}
