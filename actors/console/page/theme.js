// Dark or light: as the system says, until the person chooses.

import { byId } from "./dom.js";

const KEY = "serl.console.theme";

export function armTheme(changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    changed();
  };
  const present = () => localStorage.getItem(KEY) ?? (system.matches ? "dark" : "light");
  byId("theme").addEventListener("click", () => {
    localStorage.setItem(KEY, present() === "dark" ? "light" : "dark");
    set(present());
  });
  system.addEventListener("change", () => set(present()));
  set(present());
}
