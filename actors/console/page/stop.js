// Stop: the button, and the space bar everywhere but in a field for text. It goes out on two ways at once.

import { isTyping } from "./controls_keyboard.js";
import { byId } from "./dom.js";
import { notify } from "./notices.js";

export function armStop(store, api, send) {
  const button = byId("stop");
  const stop = async () => {
    button.dataset.asked = "";
    const sentMs = performance.now();
    const request = api.stop(); // first: its own connection and thread at the console
    send({ kind: "stop" });
    try {
      await request;
      store.set("stop_asked", { error: null, tookMs: performance.now() - sentMs });
    } catch (error) {
      const reason = error.name === "TimeoutError" ? "no answer within 3 s" : error.message;
      store.set("stop_asked", { error: reason, tookMs: null });
      notify("error", `Stop: ${reason}`);
    } finally {
      delete button.dataset.asked;
    }
  };
  button.addEventListener("click", stop);
  // Capture: before a focused button could take the space bar for itself.
  window.addEventListener(
    "keydown",
    (event) => {
      if (event.code !== "Space" || isTyping(event.target)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      if (!event.repeat) stop();
    },
    { capture: true },
  );
  window.addEventListener(
    "keyup",
    (event) => {
      if (event.code === "Space" && !isTyping(event.target)) event.preventDefault(); // a button clicks on its release
    },
    { capture: true },
  );
  store.on("state", ({ robot }) => {
    const isStopped = robot?.mode === "stopped";
    button.classList.toggle("latched", isStopped);
    if (robot && store.get("stop_asked")?.error && isStopped) store.set("stop_asked", { error: null });
  });
}
