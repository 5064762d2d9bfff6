// The newest picture of each camera.

import { byId, drawPicture, make, say } from "./dom.js";

const OLD_MS = 1000;

export function showCameras(store) {
  const root = byId("cameras");
  const tiles = new Map();
  const tile = (name) => {
    if (!tiles.has(name)) {
      const canvas = make("canvas", { width: 128, height: 128, "aria-label": `camera ${name}` });
      const caption = make("figcaption", { textContent: name });
      root.querySelector(".empty")?.remove();
      const next = Array.from(root.children).find((other) => other.dataset.name > name) ?? null;
      root.insertBefore(make("figure", { "data-name": name }, canvas, caption), next); // the same order each time
      tiles.set(name, { canvas, caption, shownMs: -Infinity, isBusy: false, waiting: null });
      root.dataset.count = tiles.size;
    }
    return tiles.get(name);
  };
  root.append(make("p", { className: "empty quiet", textContent: "No camera." }));
  store.on("hello", ({ cameras }) => cameras.forEach(tile));
  store.on("picture", ({ name, blob }) => draw(tile(name), blob));
  setInterval(() => {
    const nowMs = performance.now();
    for (const [name, { canvas, caption, shownMs }] of tiles) {
      const isOld = nowMs - shownMs > OLD_MS;
      canvas.classList.toggle("old", isOld);
      say(
        caption,
        isOld
          ? `${name}: no picture${Number.isFinite(shownMs) ? ` for ${Math.round((nowMs - shownMs) / 1000)} s` : ""}`
          : name,
      );
    }
  }, 500);
}

/** Draw the newest; pictures that come while one is decoded are passed over. */
async function draw(tile, blob) {
  tile.waiting = blob;
  if (tile.isBusy) return;
  tile.isBusy = true;
  try {
    while (tile.waiting) {
      const next = tile.waiting;
      tile.waiting = null;
      await drawPicture(tile.canvas, next);
      tile.shownMs = performance.now();
    }
  } catch {
    // a torn picture: the next one comes
  } finally {
    tile.isBusy = false;
  }
}
