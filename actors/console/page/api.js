// HTTP with the token. At most three requests at a time: a browser keeps six connections to a host, and a stop
// must always find one free.

const MOST = 3;
const TIMEOUT_MS = 20000;

export class Api {
  #token;
  #running = 0;
  #waiting = [];

  constructor(token) {
    this.#token = token;
  }

  /** Return the JSON at a path, relative to the page. Throws an Error whose message a person can read. */
  async json(path) {
    return (await this.#get(path)).json();
  }

  /** Return the bytes at a path as a Blob. */
  async blob(path) {
    return (await this.#get(path)).blob();
  }

  /** Latch a stop. It waits for no other request. */
  async stop() {
    const response = await fetch("stop", {
      method: "POST",
      headers: { Authorization: `Bearer ${this.#token}`, "Content-Type": "application/json" },
      body: "{}",
      signal: AbortSignal.timeout(3000),
      priority: "high",
      cache: "no-store",
    });
    if (!response.ok) throw new Error(await said(response));
    return response.json();
  }

  async #get(path) {
    while (this.#running >= MOST) await new Promise((go) => this.#waiting.push(go));
    this.#running += 1;
    try {
      const response = await fetch(path, {
        headers: { Authorization: `Bearer ${this.#token}` },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        cache: "no-store",
      });
      if (!response.ok) throw new Error(await said(response));
      return response;
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }
}

async function said(response) {
  try {
    const problem = await response.json();
    return problem.detail || problem.title || `${response.status}`;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}
