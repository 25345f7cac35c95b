// From start to stop: opens a source and a stream, follows both, and says how it ended.

import { Capture, explain, obstacle } from "./capture.js";
import { whyClosed } from "./probe.js";
import { Session } from "./session.js";
import { Stream } from "./stream.js";
import { ROWS } from "./strip.js";
import { failure } from "./words.js";

const UNAUTHORIZED = 4401;
const UNREACHED = 1006;
const LOST_S = 0.05; // less is rounding

export class Listening {
  /**
   * @param {object} given status, sources, preferences, choices: the parts of the page it uses
   * @param {(source: Capture|Recording) => void} given.onBegin
   * @param {(event: object) => void} given.onEvent of the server
   * @param {(sound: object) => void} given.onSound see Session
   * @param {(muted: boolean) => void} given.onMuted
   * @param {() => void} given.onEnd
   */
  constructor(given) {
    Object.assign(this, given);
    this.session = null;
    this.opening = false; // waiting for the permission
  }

  get busy() {
    return this.opening || this.session !== null;
  }

  /** Seconds heard of a live source, or null. */
  get heardLive() {
    return this.session?.source.live ? this.session.seconds : null;
  }

  /** Whether there is a present that words can be late for. */
  get paced() {
    return Boolean(this.session?.source.live) || this.choices.paced;
  }

  /** @param {Recording} [recording] instead of the chosen source */
  async start(recording) {
    if (this.busy) return;
    const blocked = recording ? null : obstacle();
    if (blocked) return this.status.say(blocked);
    this.status.say("");
    this.status.show("connecting");
    this.opening = true;
    try {
      this.#begin(recording ?? (await this.#capture()));
    } catch (error) {
      this.onEnd();
      this.status.say(explain(error));
    } finally {
      this.opening = false;
    }
  }

  async stop() {
    if (!this.session) return;
    if (!this.session.stopping) {
      this.mute(false);
      if (this.status.name !== "reconnecting") this.status.show("draining");
    }
    await this.session.stop();
  }

  mute(muted) {
    if (!this.session?.source.live || this.session.stopping) return;
    this.session.mute(muted);
    this.onMuted(muted);
    if (["live", "muted"].includes(this.status.name)) this.status.show(muted ? "muted" : "live");
  }

  /** The user chose another source while one is listened to. */
  async changeSource() {
    const mine = this.session;
    if (!mine?.source.live || mine.stopping) return;
    try {
      const next = await this.#capture();
      if (await this.#change(mine, next)) this.status.say(`Listening to ${next.name || "the other source"}.`, "info");
    } catch (error) {
      this.status.say(`${explain(error)} The former one goes on.`);
    }
  }

  /** The browser did not let the page hear for so long. */
  lost(seconds) {
    this.session.skip(seconds);
    this.session.source.resume();
    this.status.say(
      `The browser stopped the microphone while this page was hidden: ${seconds.toFixed(0)} s were not heard.`);
  }

  #capture(wanted = this.sources.wanted()) {
    return Capture.open({ ...wanted, onEnded: () => this.#sourceEnded() });
  }

  #begin(source) {
    this.onBegin(source);
    const session = new Session({ source, rows: ROWS, connect: (rate) => this.#connect(rate), onSound: this.onSound });
    this.session = session;
    if (source.live) return;
    session.play(this.choices.paced).then(() => {
      if (this.session === session) this.stop();
    });
  }

  #connect(sampleRate) {
    return new Stream({
      url: new URL("../v1/stream", location.href).href.replace(/^http/, "ws"),
      sampleRate,
      token: this.preferences.token,
      options: { client_id: "page", endpointing: this.#endpointing() },
      onEvent: this.onEvent,
      onState: (name, detail) => this.#streamState(name, detail),
    });
  }

  /** As the model finds best, unless a pause was chosen. */
  #endpointing() {
    const silence = Number(this.choices.silenceMs);
    return silence ? { mode: "auto", silence_ms: silence } : { mode: "auto" };
  }

  /** Go on with another source; another rate needs another stream, which follows this one. */
  async #change(mine, next) {
    if (this.session !== mine || mine.stopping) {
      await next.close();
      return false;
    }
    if (await mine.change(next)) return true;
    await next.close();
    mine.followedBy = () => this.start();
    await this.stop();
    return false;
  }

  async #sourceEnded() {
    const mine = this.session;
    if (!mine?.source.live || mine.stopping) return;
    const wanted = this.sources.wanted();
    const shared = wanted.kind === "tab";
    try {
      if (shared) throw new Error("nothing replaces a share");
      const next = await this.#capture({ ...wanted, deviceId: "" });
      await this.#change(mine, next);
      this.status.say(`The microphone went away; ${next.name || "the default one"} is used now.`);
    } catch {
      this.status.say(shared ? "The share was ended." : "The microphone went away.");
      this.stop();
    }
  }

  #streamState(name, detail) {
    switch (name) {
      case "live":
        this.status.answering(detail.model?.name);
        this.status.show(this.session?.stopping ? "draining" : this.session?.muted ? "muted" : "live");
        this.status.say(
          detail.lostS > LOST_S ? `${detail.lostS.toFixed(1)} s of sound were lost while reconnecting.` : "");
        break;
      case "full":
        this.status.say(
          `The network is slow: ${detail.seconds.toFixed(0)} s of sound wait here and are sent as it clears.`);
        break;
      case "clear":
        this.status.say("");
        break;
      case "drained":
        this.#end()?.();
        break;
      case "failed":
        this.#end();
        this.#explain(detail);
        break;
      default:
        this.status.show(name);
    }
  }

  /** Let go of the session; returns what waited for its end. */
  #end() {
    const mine = this.session;
    this.session = null;
    mine?.release();
    this.onMuted(false);
    this.onEnd();
    return mine?.followedBy;
  }

  async #explain(detail) {
    let { code, words } = { code: detail.code, words: failure(detail) };
    if (code === UNREACHED && !detail.reached) {
      ({ code, words } = await whyClosed(location.href, this.preferences.token));
    }
    this.status.say(words);
    if (code === UNAUTHORIZED) this.preferences.askForToken();
  }
}
