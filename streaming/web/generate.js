// The view in which sound is made: from a wish to what is heard, seen and saved.

import { explain } from "./capture.js";
import { Generation } from "./generation.js";
import { Picture } from "./picture.js";
import { Player, silence } from "./player.js";
import { voices, whyClosed } from "./probe.js";
import { floats, Take } from "./take.js";
import { save } from "./takeaway.js";
import { unmade } from "./words.js";
import { WishForm } from "./wish-form.js";

const LABELS = {
  idle: "Ready",
  asking: "Starting",
  playing: "Playing",
  waiting: "Buffering",
  paused: "Paused",
  done: "Done",
  cancelled: "Cancelled",
  failed: "Stopped",
};
const UNAUTHORIZED = 4401;
const UNREACHED = 1006;

export class Generate {
  /**
   * @param {(id: string) => HTMLElement} $
   * @param {object} given status (for notices), preferences (for the token)
   */
  constructor($, { status, preferences }) {
    Object.assign(this, { $, status, preferences });
    this.form = new WishForm($("wish"), () => this.make());
    this.picture = new Picture($("picture"), (share) => this.seek(share * this.picture.seconds));
    this.player = null;
    this.generation = null; // while something is made
    this.take = null; // what was made last
    this.asked = false; // the server was asked what it has
    $("make").addEventListener("click", (event) => {
      if (!this.making) return; // the form is sent off
      event.preventDefault(); // cancelled, the button would send it off
      this.cancel();
    });
    $("play").addEventListener("click", () => this.pause());
    $("save").addEventListener("click", () => this.save());
    for (const id of ["look-again", "look-once-more"]) $(id).addEventListener("click", () => this.#look());
    $("settings-too").addEventListener("click", () => preferences.open());
    $("settings").addEventListener("close", () => document.body.dataset.view === "generate" && this.shown());
    $("keep-seed").addEventListener("click", () => this.form.keepSeed(this.wish.seed));
    $("seek").addEventListener("input", ({ target }) => this.seek(target.valueAsNumber));
    this.#state("idle");
  }

  /** Whether something is asked for that is not here yet. */
  get making() {
    return Boolean(this.generation || this.opening);
  }

  /** The view is looked at. */
  shown() {
    if (!this.asked) this.#look();
    this.picture.invalidate();
  }

  /** Make it, or stop making it. */
  toggle() {
    if (this.making) this.cancel();
    else this.make();
  }

  /** What the keyboard's space does: the sound on and off, or the first sound. */
  play() {
    if (this.take?.samples) this.pause();
    else this.toggle();
  }

  async make() {
    if (this.making || !this.form.model) return;
    const wish = this.form.read();
    if (!wish) return;
    const blocked = silence();
    if (blocked) return this.status.say(blocked);
    this.status.say("");
    this.#state("asking");
    const opening = (this.opening = this.#open(wish.model.sample_rate));
    this.#buttons();
    try {
      await opening;
      if (this.opening === opening) this.#begin(wish);
    } catch (error) {
      if (this.opening !== opening) return; // cancelled meanwhile
      this.opening = null;
      this.#state("failed");
      this.status.say(explain(error));
    }
  }

  cancel() {
    if (!this.making) return;
    this.opening = null;
    this.generation?.cancel();
    this.generation = null;
    this.player?.stop();
    this.#state("cancelled");
    this.#facts();
  }

  /** The sound on and off, from the beginning where it has ended. */
  pause() {
    if (!this.take?.samples) return;
    if (["playing", "waiting"].includes(this.name)) {
      this.player.pause();
      this.#state("paused");
    } else if (this.name === "paused") {
      this.player.resume();
      this.#state("playing");
    } else {
      this.#playFrom(this.position >= this.take.samples ? 0 : this.position);
    }
  }

  /** @param {number} seconds */
  seek(seconds) {
    if (!this.take?.samples) return;
    this.#playFrom(Math.round(Math.min(Math.max(0, seconds), this.take.seconds) * this.take.rate));
  }

  save() {
    if (!this.take?.samples) return;
    save(new Blob(this.take.wav(), { type: "audio/wav" }), `${this.wish.name.slice(0, 60).replaceAll(" ", "_")}-${this.wish.seed}.wav`);
  }

  async #look() {
    this.asked = true;
    const { models, code, words } = await voices(location.href, this.preferences.token);
    this.asked = !words;
    this.$("wish").hidden = !models.length;
    this.$("none").hidden = models.length > 0 || Boolean(words);
    this.$("unasked").hidden = !words;
    this.$("unasked-why").textContent = words;
    if (models.length) this.form.offer(models);
    if (code === UNAUTHORIZED) this.preferences.askForToken();
    this.#buttons();
  }

  /** A player for the rate, made in the gesture of the user. */
  async #open(rate) {
    if (this.player?.suits(rate)) return this.player.resume();
    await this.player?.close();
    this.player = null;
    this.player = await Player.open(rate, (heard) => this.#heard(heard));
  }

  #begin(wish) {
    this.opening = null;
    this.wish = wish;
    const { rate } = this.player;
    const seconds = wish.wishes.reduce((sum, one) => sum + one.seconds, 0);
    const take = (this.take = new Take(rate));
    this.position = 0;
    this.furthest = 0;
    this.picture.reset(seconds, rate, take.marks);
    this.$("seek").max = seconds;
    document.body.classList.add("made");
    this.player.begin(0);
    this.generation = new Generation({
      ...wish,
      url: new URL("../v1/stream", location.href).href.replace(/^http/, "ws"),
      token: this.preferences.token,
      model: wish.model.name,
      rate,
      onBegin: ({ label }) => label && take.mark(label),
      onSound: (samples) => this.#made(samples),
      onState: (name, detail) => this.#generation(name, detail),
    });
    this.speed = this.generation;
    this.#facts();
    this.#buttons();
  }

  #made(samples) {
    this.take.add(samples);
    this.picture.add(samples);
    this.player.feed(floats(samples));
    this.#facts();
    this.#buttons();
  }

  #generation(name, detail) {
    if (name === "making") return;
    this.generation = null;
    this.player.end();
    this.picture.finish();
    this.#facts();
    this.#buttons();
    if (name === "failed") this.#failed(detail);
  }

  async #failed(detail) {
    if (!detail.reached) {
      this.player.stop();
      this.#state("failed");
    }
    let { code, words } = { code: detail.code, words: unmade(detail) };
    if (code === UNREACHED && !detail.ready) ({ code, words } = await whyClosed(location.href, this.preferences.token));
    this.status.say(words);
    if (code === UNAUTHORIZED) this.preferences.askForToken();
  }

  #heard({ position, state }) {
    this.position = position;
    this.furthest = Math.max(this.furthest, position);
    const seconds = position / this.take.rate;
    this.generation?.listened(this.furthest / this.take.rate);
    this.picture.heard(seconds);
    this.#facts();
    if (state === "ended") this.#state("done");
    else if (this.name !== "paused") this.#state(position || state === "playing" ? state : "asking");
  }

  #playFrom(sample) {
    this.position = sample;
    this.player.begin(sample);
    this.player.feed(this.take.from(sample));
    if (!this.generation) this.player.end();
    this.picture.heard(sample / this.take.rate);
    this.#state("playing");
    this.#facts();
  }

  #state(name) {
    if (this.name === name) return;
    this.name = name;
    document.body.dataset.sound = name;
    this.$("sound-state").textContent = LABELS[name];
    this.#buttons();
  }

  #buttons() {
    const { making } = this;
    const sounding = ["playing", "waiting"].includes(this.name);
    document.body.classList.toggle("making", making);
    this.$("make").disabled = !this.form.model;
    this.$("make").type = making ? "button" : "submit"; // Enter in a field sends off, never cancels
    this.$("make-label").textContent = making ? "Cancel" : "Generate";
    for (const id of ["play", "save", "seek"]) this.$(id).disabled = !this.take?.samples;
    this.$("play").setAttribute("aria-label", sounding ? "Pause" : "Play");
    this.$("play").title = `${sounding ? "Pause" : "Play"} (Space)`;
    this.$("play").querySelector("use").setAttribute("href", sounding ? "#i-pause" : "#i-play");
  }

  #facts() {
    if (!this.take) return;
    const { take, picture, speed, wish } = this;
    const heard = this.position / take.rate;
    const whole = this.generation ? picture.seconds : take.seconds;
    this.$("position").textContent = `${heard.toFixed(1)} / ${whole.toFixed(1)} s`;
    this.$("seek").value = heard;
    this.$("seek").setAttribute("aria-valuetext", `${heard.toFixed(1)} of ${whole.toFixed(1)} seconds`);
    this.$("made-s").textContent = `${take.seconds.toFixed(2)} s`;
    this.$("factor").textContent = speed.factor === null ? "–" : speed.factor.toFixed(speed.factor < 0.1 ? 3 : 2);
    this.$("first-after").textContent = speed.firstAfter === null ? "–" : `${Math.round(speed.firstAfter * 1000)} ms`;
    this.$("seed-used").textContent = wish.seed;
  }
}
