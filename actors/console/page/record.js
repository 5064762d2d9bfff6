// Recordings that a person starts from the page, and how far each is: demonstrations, frames for the reward classifier.

import { byId, make, say } from "./dom.js";
import { notify } from "./notices.js";

const KINDS = [
  {
    what: "demonstrations",
    title: "Demonstrations",
    goal: 20,
    hint: "Keep control (T), do the task, label each try: success keeps it, discard records it again.",
  },
  {
    what: "classifier",
    title: "Frames for the classifier",
    goal: 200,
    hint:
      "Resume (P), steer, and hold 1 while the task is done, 2 while it is not. Frames of which nobody says anything " +
      "are left out. Wanted are five times as many without success.",
  },
];

export function armRecord(store, send) {
  const rows = KINDS.map((kind) => ({ ...kind, ...makeRow(kind, send) }));
  store.on("hello", ({ roles }) => {
    for (const { buttons } of rows) buttons.hidden = !roles?.includes("record");
  });
  const told = new Set(); // of which the recording itself has said how far it is: it knows better than its folder
  store.on("state", ({ progress, recorder }) => {
    for (const row of rows) {
      if (recorder) enable(row, recorder);
      const { count, goal } = progress?.[row.what] ?? {};
      if (count !== undefined && !told.has(row.what)) show(row.bar, row.words, count, goal);
    }
  });
  const take = (recording) => {
    const row = rows.find(({ what }) => what === recording?.what);
    if (row === undefined) return;
    told.add(row.what);
    show(row.bar, row.words, recording.kept, recording.wanted);
    row.others.hidden = !recording.negatives_wanted;
    show(row.othersBar, row.othersWords, recording.negatives ?? 0, recording.negatives_wanted ?? 0);
  };
  store.on("record", take);
  store.on("recording", take);
}

/** Let nobody press what would be refused, and say why. */
function enable({ start, end }, { is_running: isRunning, why_not: whyNot }) {
  start.disabled = Boolean(whyNot);
  start.title = whyNot ?? "";
  end.disabled = !isRunning;
  end.title = isRunning ? "" : "no recording of this console is under way";
}

function show(bar, words, kept, wanted) {
  bar.max = wanted;
  bar.value = Math.min(kept, wanted);
  say(words, `${kept} of ${wanted}`);
}

function makeRow({ what, title, goal, hint }, send) {
  const bar = make("progress", { max: goal, value: 0, "aria-label": `${title} recorded`, id: `progress-${what}` });
  const words = make("output", { textContent: `– of ${goal}`, id: `recorded-${what}` });
  const othersBar = make("progress", { max: goal, value: 0, "aria-label": "without success" });
  const othersWords = make("output", { id: `recorded-others-${what}` });
  const others = make("div", { className: "row", hidden: true }, othersBar, othersWords, "without success");
  const press = (message) => {
    if (!send({ kind: "record", what, ...message })) notify("error", "Record: no connection, nothing was sent");
  };
  const amount = make("input", { type: "number", min: 1, max: 10000, value: goal, id: `wanted-${what}` });
  const start = make("button", {
    type: "button",
    id: `start-${what}`,
    textContent: "Start",
    onclick: () => press({ count: amount.valueAsNumber || goal }),
  });
  const end = make("button", {
    type: "button",
    id: `end-${what}`,
    textContent: "End",
    disabled: true,
    onclick: () => press({ stop: true }),
  });
  const buttons = make("div", { className: "row", hidden: true }, make("label", {}, "how many ", amount), start, end);
  byId("record").append(
    make(
      "div",
      { className: "panel" },
      make("h2", { textContent: title }),
      make("div", { className: "row" }, bar, words),
      others,
      buttons,
      make("p", { className: "quiet", textContent: hint }),
    ),
  );
  return { bar, words, others, othersBar, othersWords, buttons, start, end };
}
