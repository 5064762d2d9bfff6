// Force and torque on the tool against their limits.

import { byId, make, number, say } from "./dom.js";

const AXES = ["Fx", "Fy", "Fz", "Tx", "Ty", "Tz"];
const DEFAULTS = { force_n: 50, torque_nm: 25 };

export function showWrench(store) {
  const root = byId("wrench");
  const rows = AXES.map((axis) => {
    const fill = make("i");
    const value = make("output", { textContent: "–" });
    root.append(make("span", { textContent: axis }), make("div", { className: "bar centred" }, fill), value);
    return { fill, value };
  });
  const limits = () => store.get("hello")?.limits ?? DEFAULTS;
  store.on("state", ({ robot }) => {
    rows.forEach(({ fill, value }, i) => {
      const limit = i < 3 ? limits().force_n : limits().torque_nm;
      const share = robot ? robot.tcp_wrench[i] / limit : 0;
      const size = Math.min(1, Math.abs(share));
      fill.style.width = `${50 * size}%`;
      fill.style.left = `${share < 0 ? 50 - 50 * size : 50}%`;
      fill.className = size > 0.8 ? "high" : size > 0.5 ? "raised" : "";
      say(value, robot ? number(robot.tcp_wrench[i], 1, i < 3 ? `/ ${limit} N` : `/ ${limit} Nm`) : "–");
    });
  });
}
