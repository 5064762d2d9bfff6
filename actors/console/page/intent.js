// What a person means, and what it is in the frame that they chose.
//
// An intent is six numbers in [-1, 1] in the person's own axes: forward, left, up, then right-handed turns about them.

/** Rows of a frame's axes in terms of forward, left, up. */
const FRAMES = {
  base: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ], // x forward, y left, z up
  tool: [
    [1, 0, 0],
    [0, -1, 0],
    [0, 0, -1],
  ], // a tool that points down: its z is down
  camera: [
    [0, -1, 0],
    [-1, 0, 0],
    [0, 0, -1],
  ], // x right, y down, z into the picture: forward is up in the picture
};

/** How far the person's forward is turned from the base's x axis, counter-clockwise seen from above, in degrees. */
const STANDS_DEG = { behind: 0, front: 180, left: -90, right: 90 };

/** Return the twist in the chosen frame. Where the person stands counts in the base frame only. */
export function toTwist(intent, frame, side = "behind") {
  const seen = frame === "base" ? turnedAboutUp(intent, STANDS_DEG[side]) : intent;
  const rows = FRAMES[frame];
  const twist = [0, 3].flatMap((start) =>
    rows.map((row) => row.reduce((sum, factor, i) => sum + factor * seen[start + i], 0)),
  );
  return shortened(twist);
}

/** Return the intents added, each axis within [-1, 1]. */
export function merged(intents) {
  const sum = [0, 0, 0, 0, 0, 0];
  for (const intent of intents) intent.forEach((value, i) => (sum[i] += value));
  return sum.map((value) => Math.min(1, Math.max(-1, value)));
}

/** Return a deflection with nothing below the dead zone, growing from 0 at its edge to 1 at full travel. */
export function beyondDeadZone(value, deadZone) {
  const size = Math.min(1, Math.max(0, (Math.abs(value) - deadZone) / (1 - deadZone)));
  return Math.sign(value) * size;
}

function turnedAboutUp(intent, degrees) {
  const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  return [0, 3].flatMap((i) => [c * intent[i] - s * intent[i + 1], s * intent[i] + c * intent[i + 1], intent[i + 2]]);
}

/** A diagonal can be longer than the range along one axis: shorten it, for a clip would bend it. */
function shortened(twist) {
  return [0, 3].flatMap((start) => {
    const half = twist.slice(start, start + 3);
    const longest = Math.max(1, ...half.map(Math.abs));
    return half.map((value) => value / longest + 0); // + 0: no minus zero on the wire
  });
}
