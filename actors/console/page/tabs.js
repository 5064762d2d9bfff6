// The tabs of the right column: arrows go from one to the next, as in any list of tabs.

import { byId } from "./dom.js";

export function armTabs(shown) {
  const tabs = Array.from(document.querySelectorAll("[role=tab]"));
  const select = (tab) => {
    for (const other of tabs) {
      const isSelected = other === tab;
      other.setAttribute("aria-selected", isSelected);
      other.tabIndex = isSelected ? 0 : -1;
      byId(other.getAttribute("aria-controls")).hidden = !isSelected;
    }
    shown(tab.getAttribute("aria-controls"));
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const next = tabs[(i + step + tabs.length) % tabs.length];
      next.focus();
      select(next);
    });
  });
}
