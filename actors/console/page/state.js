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
