// What the person should know, newest first; read out by a screen reader.

import { byId, make } from "./dom.js";

const MOST = 60;

/** Show a notice: level is "info", "warning" or "error". The same text again only counts up. */
export function notify(level, text) {
  const list = byId("notices");
  const newest = list.firstElementChild;
  if (newest?.dataset.text === text) {
    newest.dataset.count = Number(newest.dataset.count) + 1;
    return;
  }
  const time = make("time", { textContent: new Date().toTimeString().slice(0, 8) });
  const item = make(
    "li",
    { className: level, "data-text": text, "data-count": 1 },
    time,
    make("span", { textContent: text }),
  );
  list.prepend(item);
  while (list.children.length > MOST) list.lastElementChild.remove();
}
