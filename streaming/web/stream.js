// One stream over a WebSocket that outlives its connections.

import { Outbox } from "./outbox.js";
import { Watch } from "./watch.js";

const KEEP_S = 60; // of audio, for sending again after a reconnect
const FULL_BYTES = 1 << 20; // in the socket's own buffer: stop and say so
const AHEAD_S = 20; // sent before the server decoded it; its buffer holds 30 s
const UNSENT_S = 2; // `room()` waits above this
const METRICS_MS = 500;
// Closes after which the same stream may go on. Other codes name a fault of the request.
const RETRIED = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014, 4408, 4410, 4413]);
const PATIENCE_S = 600; // what is said meanwhile waits here
const FORGOTTEN = 4410; // the token is of no use any more, the sound that is kept is

export class Stream {
  /**
   * @param {object} given
   * @param {string} given.url of /v1/stream
   * @param {number} given.sampleRate of what is fed
   * @param {string} [given.token]
   * @param {object} [given.options] further fields of `start`
   * @param {(event: object) => void} given.onEvent server events, times and utterances of one count
   * @param {(state: string, detail: object) => void} given.onState connecting, live, reconnecting,
   *   full (seconds wait here), clear, drained, failed
   */
  constructor(given) {
    Object.assign(this, { options: {}, ...given });
    this.outbox = new Outbox(KEEP_S * this.sampleRate);
    this.origin = { sample: 0, utterance: 0 };
    this.resume = null;
    this.lastSeq = 0;
    this.decoded = 0; // samples
    this.finalEnd = 0; // seconds
    this.utterances = 0;
    this.attempt = 0;
    this.brokenAt = 0;
    this.everLive = false;
    this.over = false;
    this.full = false;
    this.waiting = [];
    this.watch = new Watch({
      ping: () => this.socket.readyState === WebSocket.OPEN && this.socket.send(JSON.stringify({ type: "ping" })),
      onDead: () => this.#abandon(),
    });
    this.online = () => this.#retryNow();
    globalThis.addEventListener?.("online", this.online);
    this.#connect();
  }

  /** @param {Int16Array} samples */
  feed(samples) {
    this.outbox.feed(samples);
    this.#pump();
  }

  gap(count) {
    this.outbox.gap(count);
    this.#pump();
  }

  flush(id = "page") {
    this.outbox.flush(id);
    this.#pump();
  }

  finish() {
    this.outbox.finish();
    this.#pump();
  }

  /** Resolves when little is unsent: what feeds faster than real time waits for it. */
  room() {
    if (this.over || this.outbox.unsent < UNSENT_S * this.sampleRate) return Promise.resolve();
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Give up at once. */
  close() {
    if (this.ready && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "cancel" }));
    this.#end("drained", {});
    this.socket?.close(1000);
  }

  #connect() {
    if (this.over) return;
    this.retry = null;
    const offer = ["audiomamba.v1", ...(this.token ? [`bearer.${this.token}`] : [])];
    this.ready = false;
    this.lastWords = null;
    this.onState(this.everLive ? "reconnecting" : "connecting", { attempt: this.attempt });
    let socket;
    try {
      socket = new WebSocket(this.url, offer);
    } catch {
      // After the constructor has returned, as every other end.
      queueMicrotask(() => this.#end("failed", { code: 4401, message: "the token holds odd characters" }));
      return;
    }
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify(this.#start()));
    socket.onmessage = (message) => {
      if (socket !== this.socket) return;
      this.watch.heard();
      if (typeof message.data === "string") this.#receive(JSON.parse(message.data));
    };
    socket.onclose = (close) => {
      if (socket === this.socket) this.#closed(close);
    };
  }

  #start() {
    const start = {
      type: "start",
      protocol: "1.0",
      task: "transcribe",
      audio: { encoding: "linear16", sample_rate: this.sampleRate, channels: 1 },
      metrics_ms: METRICS_MS,
      ...this.options,
    };
    if (this.everLive && this.resume) start.resume = { token: this.resume, last_seq: this.lastSeq };
    return start;
  }

  #receive(event) {
    if (event.seq) this.lastSeq = Math.max(this.lastSeq, event.seq);
    switch (event.type) {
      case "ready":
        this.#greeted(event);
        break;
      case "snapshot":
        this.resume = event.token;
        this.outbox.forget(this.origin.sample + event.at_sample);
        break;
      case "go_away":
        this.resume = event.token ?? this.resume;
        break;
      case "metrics":
        this.decoded = this.origin.sample + event.decoded_s * this.sampleRate;
        this.#pump();
        break;
      case "flushed":
        this.outbox.flushed(event.id);
        break;
      case "error":
        if (event.fatal) this.lastWords = event;
        break;
      case "done":
        this.#end("drained", event);
        break;
    }
    this.onEvent(this.#shifted(event));
  }

  #greeted(event) {
    this.resume = event.resume?.token ?? this.resume;
    let lost = 0;
    if (event.resumed) {
      lost = this.outbox.rewind(this.origin.sample + event.resume_at_sample);
    } else if (this.everLive) {
      lost = this.#beginAnew();
    }
    Object.assign(this, { ready: true, everLive: true, attempt: 0 });
    this.watch.start();
    this.onState("live", { lostS: lost / this.sampleRate, model: event.model });
    this.#pump();
  }

  /** The server knows nothing of us: send again what follows the last final. */
  #beginAnew() {
    const wanted = Math.round(this.finalEnd * this.sampleRate);
    const at = Math.max(wanted, Math.min(this.outbox.keptFrom, this.outbox.sent));
    this.outbox.rewind(at);
    this.origin = { sample: at, utterance: this.utterances };
    this.lastSeq = 0;
    return at - wanted;
  }

  /** The event with times and utterance numbers of our count. */
  #shifted(event) {
    const seconds = this.origin.sample / this.sampleRate;
    const moved = { ...event };
    for (const name of ["start", "end", "at", "received_s", "decoded_s"]) {
      if (typeof event[name] === "number") moved[name] += seconds;
    }
    if (event.words) moved.words = event.words.map((w) => ({ ...w, start: w.start + seconds, end: w.end + seconds }));
    if (typeof event.utterance === "number") moved.utterance += this.origin.utterance;
    if (event.type === "final") {
      // Of finals alone: what was still open when a stream began anew is said again by the new one.
      this.utterances = Math.max(this.utterances, moved.utterance + 1);
      this.finalEnd = Math.max(this.finalEnd, moved.end);
    }
    return moved;
  }

  #pump() {
    while (this.ready && !this.over && this.socket?.readyState === WebSocket.OPEN) {
      if (this.#isFull()) {
        this.#later(100);
        break;
      }
      if (this.outbox.sent - this.decoded > AHEAD_S * this.sampleRate) {
        this.#later(1000, true);
        break;
      }
      if (!this.#sendNext()) break;
    }
    if (this.outbox.unsent < UNSENT_S * this.sampleRate) this.waiting.splice(0).forEach((go) => go());
  }

  /** Whether the socket holds too much already; tells of each change. */
  #isFull() {
    const full = this.socket.bufferedAmount > FULL_BYTES;
    if (full || this.full) {
      const bytes = this.socket.bufferedAmount;
      const seconds = bytes / 2 / this.sampleRate + this.outbox.unsent / this.sampleRate;
      this.onState(full ? "full" : "clear", { seconds });
    }
    this.full = full;
    return full;
  }

  #sendNext() {
    const message = this.outbox.next();
    if (message === null) return false;
    this.socket.send(message instanceof Int16Array ? message : JSON.stringify(message));
    return true;
  }

  /** Try again later; `nudge` sends one message first, for a server that reports only progress. */
  #later(ms, nudge = false) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (nudge && this.ready && this.socket.readyState === WebSocket.OPEN) this.#sendNext();
      this.#pump();
    }, ms);
  }

  /** The socket says nothing any more: go on without waiting for its end. */
  #abandon() {
    const { socket } = this;
    this.socket = null; // its late events are nobody's
    socket.close();
    this.#closed({ code: 1006, reason: "the server went silent" });
  }

  #closed({ code, reason }) {
    if (this.over) return;
    this.ready = false;
    this.watch.stop();
    if (code === FORGOTTEN) this.resume = null;
    const words = this.lastWords?.message ?? (reason || `connection closed (${code})`);
    const now = performance.now() / 1000;
    if (this.attempt === 0) this.brokenAt = now;
    if (!this.everLive || !RETRIED.has(code) || now - this.brokenAt > PATIENCE_S) {
      this.#end("failed", { code, message: words, reached: this.everLive });
      return;
    }
    this.attempt += 1;
    const bound = Math.min(3, 0.1 * 1.5 ** this.attempt);
    const waitS = this.lastWords?.retry_after_s ?? Math.random() * bound;
    this.onState("reconnecting", { attempt: this.attempt, message: words });
    this.retry = setTimeout(() => this.#connect(), waitS * 1000);
  }

  /** The network is back: there is nothing to wait for. */
  #retryNow() {
    if (this.over || !this.retry) return;
    clearTimeout(this.retry);
    this.#connect();
  }

  #end(state, detail) {
    if (this.over) return;
    this.over = true;
    this.watch.stop();
    clearTimeout(this.timer);
    clearTimeout(this.retry);
    globalThis.removeEventListener?.("online", this.online);
    this.waiting.splice(0).forEach((go) => go());
    this.onState(state, detail);
  }
}
