// How the policy does alone: the score with its interval, each trial, the films, and the report.

import { byId, make, number, say } from "./dom.js";

export class Evaluation {
  constructor(api) {
    this.api = api;
    this.state = make("p", { className: "quiet" });
    this.result = make("div");
    this.film = make("video", { controls: true, hidden: true, muted: true });
    const again = make("button", { type: "button", textContent: "Look again", onclick: () => this.load() });
    const report = make("button", {
      type: "button",
      id: "report",
      textContent: "Download the report",
      onclick: () => this.#report(),
    });
    byId("compare").append(make("div", { className: "row" }, again, report), this.state, this.result, this.film);
  }

  async load() {
    try {
      const { evaluation, clips } = await this.api.json("evaluation");
      say(this.state, evaluation ? "" : "This run has no evaluation yet: serl eval writes one.");
      this.result.replaceChildren(...(evaluation ? this.#score(evaluation) : []), ...this.#clips(clips ?? []));
    } catch (error) {
      say(this.state, `No evaluation: ${error.message}`);
    }
  }

  #score(found) {
    const [low, high, rate] = [found.wilson_low, found.wilson_high, found.success_rate];
    const span = make("i", { className: "interval" });
    span.style.left = `${100 * low}%`;
    span.style.width = `${100 * (high - low)}%`;
    const mark = make("b");
    mark.style.left = `${100 * rate}%`;
    const percent = (share) => (100 * share).toFixed(0);
    const words = [
      `${found.successes} of ${found.trials} (${percent(rate)} %)`,
      `95 % interval ${percent(low)} to ${percent(high)} %`,
      `cycle time ${number(found.median_cycle_s, 1, "s")}, p90 ${number(found.p90_cycle_s, 1, "s")}`,
    ].join("; ");
    const trials = (found.trials_detail ?? []).map((trial, i) =>
      make("span", {
        className: trial.is_success ? "trial good" : "trial bad",
        title: `${trial.end}, ${trial.steps} steps`,
        textContent: String(i + 1),
      }),
    );
    return [
      make(
        "div",
        { className: "panel" },
        make("h2", { textContent: `Policy alone: ${found.task}` }),
        make("div", { className: "bar" }, span, mark),
        make("p", { textContent: words }),
        make("div", { className: "trials" }, ...trials),
      ),
    ];
  }

  #clips(names) {
    if (names.length === 0) return [];
    const buttons = names.map((name) =>
      make("button", { type: "button", textContent: name.replace(/\.mp4$/, ""), onclick: () => this.#play(name) }),
    );
    return [
      make(
        "div",
        { className: "panel" },
        make("h2", { textContent: "Films" }),
        make("div", { className: "row" }, ...buttons),
      ),
    ];
  }

  async #play(name) {
    try {
      const film = await this.api.blob(`clips/${encodeURIComponent(name.replace(/\.mp4$/, ""))}.mp4`);
      URL.revokeObjectURL(this.film.src);
      this.film.src = URL.createObjectURL(film);
      this.film.hidden = false;
      await this.film.play();
    } catch (error) {
      say(this.state, `${name}: ${error.message}`);
    }
  }

  async #report() {
    try {
      say(this.state, "writing the report …");
      const url = URL.createObjectURL(await this.api.blob("report"));
      make("a", { href: url, download: "report.html" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
      say(this.state, "");
    } catch (error) {
      say(this.state, `No report: ${error.message}`);
    }
  }
}
