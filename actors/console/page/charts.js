// The run's curves, drawn by uPlot: history first, then live; other runs dashed over them.

import { CHARTS } from "./chart_list.js";
import { Curves } from "./curves.js";
import { byId, colour, make, say } from "./dom.js";

const POINTS = 600;
const DRAW_MS = 1000;
const HEIGHT = 118;
const [LEAST_LABEL_PX, TICK_PX, DIGIT_PX] = [44, 14, 6.5]; // of letters of 10 px
const PALETTE = ["line-1", "line-2", "line-3"];

export class Charts {
  #own = new Curves();
  #others = new Map(); // run -> Curves
  #drawn = [];
  #isStale = true;
  #early = null; // records that came while the history was on its way
  #isVisible = true;

  constructor(store, api) {
    this.api = api;
    this.root = byId("charts");
    store.on("metrics", ({ records }) => this.#add(records));
    setInterval(() => this.#draw(), DRAW_MS);
    new ResizeObserver(() => this.redraw()).observe(this.root);
  }

  /** Fetch what was before; to be called at each new connection, too: the gap is filled. */
  async load() {
    this.#early = [];
    try {
      this.#own.load((await this.api.json(`history?since=0&points=${POINTS}`)).series);
      say(byId("history-state"), "");
    } catch (error) {
      say(byId("history-state"), `No history: ${error.message}`);
    }
    const early = this.#early ?? [];
    this.#early = null;
    this.#add(early);
    await this.#loadRuns();
    this.redraw();
  }

  set isVisible(isVisible) {
    this.#isVisible = isVisible;
    if (isVisible) this.redraw();
  }

  /** Draw everything anew: other colours, another width. */
  redraw() {
    for (const { plot } of this.#drawn) plot.destroy();
    this.#drawn = [];
    this.root.replaceChildren();
    this.#isStale = true;
    this.#draw();
  }

  #add(records) {
    if (this.#early !== null) {
      this.#early.push(...records);
      return;
    }
    for (const record of records) this.#own.add(record);
    if (records.length) this.#isStale = true;
    if (this.#own.isFull) this.load();
  }

  #draw() {
    if (!this.#isStale || !this.#isVisible || document.hidden || this.root.clientWidth === 0) return;
    this.#isStale = false;
    const shown = CHARTS.filter((chart) => chart.series.some((name) => this.#own.get(name).x.length));
    if (shown.length === 0) {
      this.root.replaceChildren(
        make("p", { className: "quiet", textContent: "No curves yet: no learner has written any." }),
      );
      return;
    }
    if (shown.length !== this.#drawn.length) {
      for (const { plot } of this.#drawn) plot.destroy();
      this.root.replaceChildren();
      const columns = this.root.clientWidth > 420 ? 2 : 1;
      const width = Math.floor((this.root.clientWidth - 8 * (columns - 1)) / columns);
      this.#drawn = shown.map((chart) => ({ chart, plot: this.#plot(chart, width) }));
      return;
    }
    for (const { chart, plot } of this.#drawn) plot.setData(this.#data(chart));
  }

  /** The own run gives mean, min and max of each curve; every other run its mean of the first. */
  #data({ series }) {
    const own = series.map((name) => this.#own.get(name)).map(({ x, mean, min, max }) => [x, mean, min, max]);
    const others = [...this.#others.values()].map((curves) => curves.get(series[0])).map(({ x, mean }) => [x, mean]);
    return window.uPlot.join([...own, ...others]);
  }

  #plot(chart, width) {
    const grid = { stroke: colour("grid"), width: 1 };
    const axis = { stroke: colour("quiet"), grid, ticks: grid, font: "10px system-ui", gap: 2 };
    const format = (value) => (chart.isPercent ? `${Math.round(100 * value)} %` : short(value));
    const series = [{}];
    const bands = [];
    chart.series.forEach((name, i) => {
      const stroke = colour(PALETTE[i]);
      const edge = { show: true, width: 0, points: { show: false }, spanGaps: true };
      series.push(
        { label: name, stroke, width: 1.5, points: { show: false }, spanGaps: true },
        { ...edge },
        { ...edge },
      );
      bands.push({ series: [series.length - 1, series.length - 2], fill: `${stroke}33` });
    });
    [...this.#others.keys()].forEach((run, i) => {
      const stroke = colour(PALETTE[(i + 1) % PALETTE.length]);
      series.push({ label: run, stroke, width: 1, dash: [5, 3], points: { show: false }, spanGaps: true });
    });
    const options = {
      width,
      height: HEIGHT,
      padding: [8, 16, 0, 0], // half of the last label of the x axis
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: chart.range ? { range: chart.range } : {} },
      axes: [
        { ...axis, size: 20, values: (_, ticks) => ticks.map(short) },
        { ...axis, size: labelWidth, values: (_, ticks) => ticks.map(format) },
      ],
      series,
      bands,
    };
    const names = chart.series.length > 1 ? (chart.names ?? chart.series).map(legend) : [];
    const figure = make("figure", {}, make("figcaption", {}, chart.title, ...names));
    this.root.append(figure);
    return new window.uPlot(options, this.#data(chart), figure);
  }

  async #loadRuns() {
    const root = byId("runs");
    let runs = [];
    try {
      const found = await this.api.json("runs");
      runs = found.runs.filter((run) => run !== found.current);
    } catch {
      // nothing to lay over: the own curves are still there
    }
    root.hidden = runs.length === 0;
    root.replaceChildren(make("legend", { textContent: "Overlay" }));
    for (const run of runs) {
      const box = make("input", { type: "checkbox", checked: this.#others.has(run) });
      box.addEventListener("change", () => this.#overlay(run, box));
      root.append(make("label", {}, box, run));
    }
  }

  async #overlay(run, box) {
    if (!box.checked) this.#others.delete(run);
    else {
      try {
        const curves = new Curves();
        curves.load((await this.api.json(`history?since=0&points=${POINTS}&run=${encodeURIComponent(run)}`)).series);
        this.#others.set(run, curves);
      } catch (error) {
        box.checked = false;
        say(byId("history-state"), `${run}: ${error.message}`);
      }
    }
    this.redraw();
  }
}

function legend(name, i) {
  return make("span", { className: `key line-${i + 1}`, textContent: name.replaceAll("_", " ") });
}

/** Return the room for the longest label of a y axis, in CSS pixels: its ticks, a gap and the digits. */
function labelWidth(_, labels) {
  const longest = Math.max(0, ...(labels ?? []).map((label) => label.length));
  return Math.max(LEAST_LABEL_PX, TICK_PX + DIGIT_PX * longest);
}

function short(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e3) return `${+(value / 1e3).toPrecision(3)}k`;
  return String(+value.toPrecision(3));
}
