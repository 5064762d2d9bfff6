// How far a recording of demonstrations, or of frames for the reward classifier, is.

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
    hint: "They are recorded by serl classifier record, which says how.",
  },
];

export function armRecord(store, send) {
  const rows = KINDS.map((kind) => ({ ...kind, ...makeRow(kind, send) }));
  store.on("hello", ({ roles }) => {
    const [demonstrations] = rows; // the console starts no other recording
    demonstrations.buttons.hidden = !roles?.includes("record");
  });
  const show = ({ bar, words }, kept, wanted) => {
    bar.max = wanted;
    bar.value = Math.min(kept, wanted);
    say(words, `${kept} of ${wanted}`);
  };
  let isTold = false; // by the recording itself: it knows better than the files in the folder
  store.on("state", ({ progress }) => {
    for (const row of rows) {
      const { count, goal } = progress?.[row.what] ?? {};
      if (count !== undefined && !isTold) show(row, count, goal);
    }
  });
  store.on("record", ({ what, kept, wanted }) => {
    isTold = true;
    rows.filter((row) => row.what === what).forEach((row) => show(row, kept, wanted));
  });
}

function makeRow({ what, title, goal, hint }, send) {
  const bar = make("progress", { max: goal, value: 0, "aria-label": `${title} recorded`, id: `progress-${what}` });
  const words = make("output", { textContent: `– of ${goal}`, id: `recorded-${what}` });
  const press = (message) => {
    if (!send({ kind: "record", what, ...message })) notify("error", "Record: no connection, nothing was sent");
  };
  const amount = make("input", { type: "number", min: 1, max: 10000, value: goal });
  const start = make("button", {
    type: "button",
    textContent: "Start",
    onclick: () => press({ count: amount.valueAsNumber || goal }),
  });
  const end = make("button", { type: "button", textContent: "End", onclick: () => press({ stop: true }) });
  const buttons = make("div", { className: "row", hidden: true }, make("label", {}, "how many ", amount), start, end);
  byId("record").append(
    make(
      "div",
      { className: "panel" },
      make("h2", { textContent: title }),
      make("div", { className: "row" }, bar, words),
      buttons,
      make("p", { className: "quiet", textContent: hint }),
    ),
  );
  return { bar, words, buttons };
}
