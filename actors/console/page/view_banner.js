// What keeps the arm from working, in one line under the header, with the way out of it.

import { byId, make } from "./dom.js";

export function showBanner(store, send) {
  const banner = byId("banner");
  let shown = null;
  const refresh = () => {
    const present = presentTrouble(store);
    const key = present && `${present.level}|${present.text}|${present.action?.label}`;
    if (key === shown) return;
    shown = key;
    banner.hidden = present === null;
    banner.replaceChildren();
    if (present === null) return;
    banner.dataset.level = present.level;
    banner.append(make("span", { textContent: present.text }));
    if (present.action) {
      const { label, message } = present.action;
      banner.append(
        make("button", { type: "button", id: "way-out", textContent: label, onclick: () => send(message) }),
      );
    }
  };
  for (const name of ["state", "step", "link", "control", "stop_asked"]) store.on(name, refresh);
}

/** Return {level, text, action} of the most serious trouble, or null. */
export function presentTrouble(store) {
  const link = store.get("link");
  if (link === "no token") return { level: "error", text: "No token: open the link that the console printed." };
  if (link === "refused") {
    return { level: "error", text: "The token is wrong or expired: open the link that the console printed." };
  }
  const asked = store.get("stop_asked");
  if (asked?.error) return { level: "error", text: `STOP DID NOT GET THROUGH: ${asked.error}. Use the user stop.` };
  if (link !== "open") return { level: "error", text: "No connection to the console. Stop may not work from here." };
  const state = store.get("state");
  const robot = state?.robot;
  if (robot?.mode === "stopped") {
    const action = { label: "Resume", message: { kind: "resume_robot" } };
    return { level: "error", text: `Stopped: ${robot.fault ?? "no cause given"}.`, action };
  }
  if (robot?.mode === "fault") {
    const action = { label: "Recover", message: { kind: "recover", cause: robot.fault || "unknown" } };
    return { level: "error", text: `Fault: ${robot.fault ?? "no cause given"}. Look at the arm first.`, action };
  }
  if (state && !robot) return { level: "error", text: state.missing?.robot ?? "The robot server does not answer." };
  if (store.get("control") === "paused") {
    return {
      level: "warning",
      text: "Paused: the arm holds.",
      action: { label: "Resume", message: { kind: "resume" } },
    };
  }
  if (robot?.is_stale) return { level: "warning", text: "The robot's state is old." };
  return null;
}
