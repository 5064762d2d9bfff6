// What keeps the arm from working, in one line under the header, with the way out of it.

import { byId, make } from "./dom.js";
import { awaitsPerson } from "./state.js";

const BY_A_PERSON = "stop"; // what the robot server calls the cause of a stop that was asked for

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
  const trouble = ofThisArm(store);
  const other = store.get("state")?.other_robot;
  if (!other || store.get("link") !== "open") return trouble;
  // Whoever looks at one arm and stops another must know it before all else; the way out of a stop stays.
  const isLatched = ["resume_robot", "recover"].includes(trouble?.action?.message.kind);
  return isLatched ? { ...trouble, text: `${other}. ${trouble.text}` } : { level: "error", text: `${other}.` };
}

function ofThisArm(store) {
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
    const cause = robot.fault ?? "no cause given";
    const text = cause === BY_A_PERSON ? "Stopped by a person." : `Stopped: ${cause}.`;
    return { level: "error", text, action };
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
  if (awaitsPerson(store)) {
    return {
      level: "warning",
      text: "Not begun: the arm waits for somebody who steers or resumes, or for the learner.",
      action: { label: "Resume", message: { kind: "resume" } },
    };
  }
  if (robot?.is_stale) return { level: "warning", text: "The robot's state is old." };
  return null;
}
