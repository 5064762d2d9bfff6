// The page's one store: named values, and who wants to hear of them.

export class Store {
  #values = new Map();
  #listeners = new Map();

  /** Return the newest value of a name; undefined before the first. */
  get(name) {
    return this.#values.get(name);
  }

  /** Keep a value and tell everyone who asked for its name. */
  set(name, value) {
    this.#values.set(name, value);
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(value);
      } catch (error) {
        console.error(`${name}:`, error); // one broken view must not keep the news from the others
      }
    }
  }

  /** Call `listener` with each new value of a name, and at once if there is one. */
  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, []);
    this.#listeners.get(name).push(listener);
    if (this.#values.has(name)) listener(this.#values.get(name));
  }
}

/** Return who has control, by a message of the state: without an actor another program may command the arm. */
export function controlOf({ control, missing, robot }) {
  if (control || !missing?.actor) return control ?? "unknown";
  return robot?.lease_epoch ? "other" : "absent";
}

/** Return whether a recording, or an actor, has not begun: it waits for its first person, or for a learner. */
export function awaitsPerson(store) {
  return store.get("control") === "waiting" && (store.get("step")?.episode ?? 0) < 0;
}
