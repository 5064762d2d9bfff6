// Who is in control, and the numbers that say whether all is well.

import { byId, make, number, say } from "./dom.js";

const CONTROL = {
  policy: "policy",
  human: "human",
  reset: "reset",
  paused: "paused",
  stopped: "stopped",
  fault: "fault",
  waiting: "waiting",
  other: "another program",
  absent: "no actor",
  unknown: "unknown",
};

const FACTS = {
  mode: "robot",
  episode: "episode",
  loop: "loop rate",
  late: "late ticks",
  policy: "policy age",
  camera: "camera age",
};

export function showStatus(store) {
  const facts = Object.fromEntries(Object.keys(FACTS).map((key) => [key, make("dd", { id: `fact-${key}` })]));
  for (const [key, label] of Object.entries(FACTS))
    byId("facts").append(make("dt", { textContent: label }), facts[key]);
  const bar = byId("probability").appendChild(make("i"));
  const mark = byId("probability").appendChild(make("b"));
  store.on("hello", ({ run, task }) => {
    say(byId("run"), [run ?? "no run", task?.name].filter(Boolean).join(" · "));
    document.title = `${run ?? "serl"} – console`;
  });
  store.on("control", () => showControl(store));
  store.on("link", () => showControl(store));
  store.on("state", (state) => {
    showControl(store);
    say(facts.mode, state.robot ? state.robot.mode : "none");
    facts.mode.className = ["fault", "stopped"].includes(state.robot?.mode) ? "alarm" : "";
    say(byId("ages"), agesInWords(state));
  });
  store.on("step", (step) => {
    say(facts.episode, `${step.episode}, step ${step.step}`);
    say(facts.loop, number(step.loop_hz, 1, "Hz"));
    say(facts.late, String(step.late_ticks));
    facts.late.className = step.late_ticks > 0 ? "warn" : "";
    say(facts.policy, step.policy_version ? number(step.policy_age_s, 1, "s") : "none yet");
    const oldest = Math.max(...Object.values(step.camera_age_s ?? {}), -Infinity);
    say(facts.camera, Number.isFinite(oldest) ? number(1000 * oldest, 0, "ms") : "none");
    facts.camera.className = oldest > 0.2 ? "warn" : "";
    const probability = step.success_probability;
    say(byId("probability-value"), probability == null ? "–" : `${(100 * probability).toFixed(0)} %`);
    bar.style.width = `${100 * (probability ?? 0)}%`;
    mark.hidden = step.success_threshold == null;
    mark.style.left = `${100 * (step.success_threshold ?? 0)}%`;
  });
}

function showControl(store) {
  const control = store.get("link") === "open" ? (store.get("control") ?? "unknown") : "unknown";
  const pill = byId("control");
  pill.dataset.control = control;
  say(pill, store.get("link") === "open" ? (CONTROL[control] ?? control) : "no connection");
  const who = control === "human" ? store.get("steers") : null;
  say(byId("who"), who ? (who === store.get("operator") ? `you (${who})` : who) : "");
}

function agesInWords({ ages, missing }) {
  const words = { robot_s: "robot", actor_s: "actor", learner_s: "learner" };
  return Object.entries(words)
    .map(([key, name]) => {
      if (missing?.[name]) return `no ${name}`;
      const age = ages?.[key];
      return `${name} ${age == null ? "–" : inWords(age)}`;
    })
    .join(" · ");
}

function inWords(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(0)} h`;
}
