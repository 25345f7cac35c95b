// Recordings from the server, one after the other, no further ahead than somebody listens.
//
// Sound is allowed by credit: up to AHEAD_S beyond what was heard. A page that is paused allows
// nothing, so the server stops making, and neither side holds more than that.

import { readFrame } from "./sound-frame.js";
import { Watch } from "./watch.js";

export const AHEAD_S = 4;
const STEP_S = 2; // of credit at a time
const SLACK_S = 0.1; // beyond a whole recording: its length is rounded to samples
const BLOCK_S = 0.05; // with less credit the server makes nothing
const ASKED = 8; // at once; the server takes nine

export class Generation {
  /**
   * @param {object} given
   * @param {string} given.url of /v1/stream
   * @param {string} [given.token]
   * @param {string} given.model
   * @param {{label: string|null, seconds: number}[]} given.wishes made in this order
   * @param {object} given.how voice, temperature, top_p: those that are chosen
   * @param {number} given.seed of the first; the next ones have the next numbers
   * @param {number} given.rate samples a second
   * @param {(wish: object) => void} given.onBegin what is heard from now on is this one
   * @param {(samples: Int16Array) => void} given.onSound
   * @param {(name: string, detail: object) => void} given.onState making, made, failed
   * @param {() => number} [given.now] seconds
   */
  constructor(given) {
    Object.assign(this, { how: {}, now: () => performance.now() / 1000, ...given });
    this.wishes = given.wishes.map((wish, i) => ({ ...wish, id: String(i + 1), granted: 0, received: 0 }));
    this.heard = 0; // seconds
    this.received = 0; // samples
    this.running = null; // the wish that is made
    this.began = this.now();
    this.firstAfter = null; // seconds from the click to the first sound
    this.busy = 0; // seconds that the server was waited for
    this.ready = false;
    this.over = false;
    this.watch = new Watch({ ping: () => this.#send({ type: "ping" }), onDead: () => this.#dead() });
    const offer = ["audiomamba.v1", ...(this.token ? [`bearer.${this.token}`] : [])];
    try {
      this.socket = new WebSocket(this.url, offer);
    } catch {
      // After the constructor has returned, as every other end.
      queueMicrotask(() => this.#end("failed", { code: 4401, message: "the token holds odd characters" }));
      return;
    }
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () =>
      this.#send({ type: "start", protocol: "1.0", task: "generate", model: this.model, metrics_ms: 0, client_id: "page" });
    this.socket.onmessage = ({ data }) => this.#receive(data);
    this.socket.onclose = ({ code, reason }) =>
      this.#end("failed", { message: reason || `connection closed (${code})`, ...this.lastWords, code });
  }

  /** Seconds of sound that came. */
  get seconds() {
    return this.received / this.rate;
  }

  /** Seconds that a second of sound took, as seen from here; null before there is any. */
  get factor() {
    return this.received ? this.busy / this.seconds : null;
  }

  /** So many seconds of the whole were heard: more may come. */
  listened(seconds) {
    if (seconds <= this.heard) return;
    this.heard = seconds;
    this.#allow();
  }

  /** Nothing more is wanted; nothing more is told. */
  cancel() {
    if (this.over) return;
    this.#send({ type: "cancel" });
    this.#end();
  }

  #receive(data) {
    if (this.over) return;
    this.watch.heard();
    this.#tick();
    try {
      if (typeof data === "string") this.#event(JSON.parse(data));
      else this.#sound(readFrame(data));
    } catch (error) {
      this.#end("failed", { code: 4400, message: error.message });
    }
    this.#tick();
  }

  #event(event) {
    switch (event.type) {
      case "ready":
        this.ready = true;
        this.watch.start();
        this.#allow();
        break;
      case "generation_start":
        this.running = this.wishes.find((wish) => wish.id === event.id);
        this.running.index = event.index;
        this.onState("making", event);
        this.onBegin(this.running);
        break;
      case "generation_end":
        this.#ended(event);
        break;
      case "error":
        this.lastWords = { message: event.message, error: event.code, retryAfter: event.retry_after_s };
        break;
    }
  }

  #sound({ index, rate, samples }) {
    if (index !== (this.running?.index & 0xffff) || rate !== this.rate) throw new Error("sound that was not asked for");
    this.firstAfter ??= this.now() - this.began;
    this.running.received += samples.length / rate;
    this.received += samples.length;
    this.onSound(samples);
  }

  #ended({ id, reason }) {
    this.wishes.find((wish) => wish.id === id).over = true;
    this.running = null;
    if (reason === "error") {
      this.#end("failed", { code: null, message: "the server gave up", ...this.lastWords });
    } else if (this.wishes.every((wish) => wish.over)) {
      this.#send({ type: "finish" });
      this.#end("made", {});
    } else {
      this.#allow();
    }
  }

  /** Ask for what may come, and allow more of what was asked for. */
  #allow() {
    if (!this.ready || this.over) return;
    let start = 0;
    let asked = 0;
    for (const wish of this.wishes) {
      const whole = wish.seconds + SLACK_S;
      const due = Math.min(this.heard + AHEAD_S - start, whole);
      start += wish.seconds;
      if (wish.over) continue;
      const more = due - wish.granted;
      if (more >= Math.min(STEP_S, whole - wish.granted) && more > 0) this.#grant(wish, due, more);
      if (!wish.granted || ++asked >= ASKED) break;
    }
  }

  #grant(wish, due, more) {
    if (wish.granted) {
      this.#tick();
      this.#send({ type: "credit", id: wish.id, seconds: more });
    } else {
      const wanted = { type: "generate", id: wish.id, ...this.how, max_s: wish.seconds, credit_s: due };
      if (wish.label !== null) wanted.input = { label: wish.label };
      wanted.seed = this.seed + this.wishes.indexOf(wish);
      wanted.audio = { encoding: "linear16", sample_rate: this.rate };
      this.#send(wanted);
    }
    wish.granted = due;
    this.#tick();
  }

  /** Count the time in which the server could make something. */
  #tick() {
    const now = this.now();
    if (this.working) this.busy += now - this.ticked;
    this.ticked = now;
    // Until the first begins, a model may have to be loaded: that is no speed.
    this.working = this.wishes.some((wish) => wish.index || wish.over) &&
      this.wishes.some((wish) => wish.granted && !wish.over && wish.granted - wish.received >= BLOCK_S);
  }

  #send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  #dead() {
    this.#end("failed", { code: 1006, message: "the server went silent" });
  }

  #end(name, detail) {
    if (this.over) return;
    this.over = true;
    this.watch.stop();
    this.socket?.close(1000);
    if (name) this.onState(name, { reached: this.received > 0, ready: this.ready, ...detail });
  }
}
