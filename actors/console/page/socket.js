// The WebSocket to the console: says hello first, comes back by itself, knows how long the other side was silent.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4000;
const PING_MS = 1000;
const SILENT_MS = 4000;
const MOST_UNSENT_BYTES = 4096; // a command behind that much would be an old one on arrival
const WRONG_TOKEN = 4401;

export class Socket {
  #socket = null;
  #waitMs = FIRST_WAIT_MS;
  #heardMs = 0;
  #isOver = false;
  #rttMs = null; // of the last ping

  /**
   * @param {{token: string, operator: string, onMessage: Function, onPicture: Function, onLink: Function}} options
   *   onLink hears "open", "lost" or "refused".
   */
  constructor(options) {
    this.options = options;
    setInterval(() => this.#watch(), PING_MS);
  }

  connect() {
    const address = new URL("ws", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.hash = "";
    const socket = (this.#socket = new WebSocket(address));
    socket.binaryType = "arraybuffer";
    this.#heardMs = performance.now();
    socket.onopen = () => {
      const { token, operator } = this.options;
      socket.send(JSON.stringify({ kind: "hello", token, operator }));
    };
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = (event) => this.#lose(socket, event);
  }

  /** Send a message now; return false if that is not possible. Nothing is kept for later. */
  send(message) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN || socket.bufferedAmount > MOST_UNSENT_BYTES) return false;
    socket.send(JSON.stringify(message));
    return true;
  }

  /** Milliseconds since the console last said something. */
  get silentMs() {
    return performance.now() - this.#heardMs;
  }

  #hear(data) {
    this.#heardMs = performance.now();
    if (data instanceof ArrayBuffer) {
      const length = new Uint8Array(data, 0, 1)[0];
      const name = new TextDecoder().decode(new Uint8Array(data, 1, length));
      this.options.onPicture(name, new Blob([new Uint8Array(data, 1 + length)], { type: "image/jpeg" }));
      return;
    }
    const message = JSON.parse(data);
    if (message.kind === "hello") {
      this.#waitMs = FIRST_WAIT_MS;
      this.options.onLink("open");
    }
    if (message.kind === "pong") this.#rttMs = performance.now() - message.sent_ms;
    this.options.onMessage(message);
  }

  #lose(socket, event) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    if (event.code === WRONG_TOKEN) {
      this.#isOver = true;
      this.options.onLink("refused");
      return;
    }
    this.options.onLink("lost");
    setTimeout(() => this.connect(), this.#waitMs * (0.75 + 0.5 * Math.random()));
    this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS);
  }

  #watch() {
    const socket = this.#socket;
    if (this.#isOver || socket === null) return;
    if (this.silentMs > SILENT_MS) {
      socket.onclose = null; // a dead connection may take minutes to close
      socket.close();
      this.#lose(socket, { code: 1006 });
    } else {
      this.send({ kind: "ping", sent_ms: performance.now(), ...(this.#rttMs !== null && { rtt_ms: this.#rttMs }) });
    }
  }
}
