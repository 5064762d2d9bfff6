// Where the tool was in the last half minute, in the safety box, from above and from the side.

import { byId, clearedContext, colour } from "./dom.js";

const MOST_POINTS = 300; // 30 s at 10 Hz
const MARGIN = 12; // CSS pixels

/** What is to the right and what is up in each picture, as an axis of the base and its sign. */
const VIEWS = { "trace-top": { right: [1, -1], up: [0, 1] }, "trace-side": { right: [0, 1], up: [2, 1] } };

export function showTrace(store) {
  const points = []; // {at: [x, y, z], isHuman}
  store.on("state", ({ robot }) => {
    if (robot) points.push({ at: robot.tcp_pose.slice(0, 3), isHuman: store.get("control") === "human" });
    if (points.length > MOST_POINTS) points.shift();
    const { box, task } = store.get("hello") ?? {};
    for (const [id, view] of Object.entries(VIEWS)) drawView(byId(id), view, points, box, task?.target_pose);
  });
}

function drawView(canvas, { right, up }, points, box, target) {
  const { context, width, height } = clearedContext(canvas);
  const flat = (at) => [right[1] * at[right[0]], up[1] * at[up[0]]];
  const corners = box ? [flat(box.low_m), flat(box.high_m)] : points.map(({ at }) => flat(at));
  if (corners.length === 0) return;
  const [low, high] = [0, 1]
    .map((i) => [i, corners.map((corner) => corner[i])])
    .reduce(
      ([lows, highs], [i, values]) => {
        lows[i] = Math.min(...values);
        highs[i] = Math.max(...values);
        return [lows, highs];
      },
      [
        [0, 0],
        [0, 0],
      ],
    );
  const scale = Math.min(
    (width - 2 * MARGIN) / (high[0] - low[0] || 0.1),
    (height - 2 * MARGIN) / (high[1] - low[1] || 0.1),
  );
  const place = (at) => {
    const [x, y] = flat(at);
    return [width / 2 + scale * (x - (low[0] + high[0]) / 2), height / 2 - scale * (y - (low[1] + high[1]) / 2)];
  };
  if (box) {
    const [[x0, y0], [x1, y1]] = [place(box.low_m), place(box.high_m)];
    context.strokeStyle = colour("limit");
    context.setLineDash([4, 3]);
    context.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
    context.setLineDash([]);
  }
  if (target) {
    const [x, y] = place(target);
    context.strokeStyle = colour("good");
    context.beginPath();
    context.moveTo(x - 5, y);
    context.lineTo(x + 5, y);
    context.moveTo(x, y - 5);
    context.lineTo(x, y + 5);
    context.stroke();
  }
  drawPath(context, points, place);
}

function drawPath(context, points, place) {
  const colours = { human: colour("human"), policy: colour("policy") };
  context.lineWidth = 1.5;
  for (let i = 1; i < points.length; i += 1) {
    context.strokeStyle = points[i].isHuman ? colours.human : colours.policy;
    context.globalAlpha = 0.15 + (0.85 * i) / points.length;
    context.beginPath();
    context.moveTo(...place(points[i - 1].at));
    context.lineTo(...place(points[i].at));
    context.stroke();
  }
  context.globalAlpha = 1;
  const newest = points.at(-1);
  if (!newest) return;
  context.fillStyle = newest.isHuman ? colours.human : colours.policy;
  context.beginPath();
  context.arc(...place(newest.at), 3.5, 0, 2 * Math.PI);
  context.fill();
}
