// The view in which sound is made: from a wish to what is heard, seen and saved.

import { explain } from "./capture.js";
import { Generation } from "./generation.js";
import { Offers } from "./offers.js";
import { Picture } from "./picture.js";
import { Player, silence } from "./player.js";
import { whyClosed } from "./probe.js";
import { SoundStatus } from "./sound-status.js";
import { floats, Take } from "./take.js";
import { save } from "./takeaway.js";
import { unmade } from "./words.js";
import { WishForm } from "./wish-form.js";

const UNAUTHORIZED = 4401;
const UNREACHED = 1006;
const NAME = 60; // letters of a file's

export class Generate {
  /**
   * @param {(id: string) => HTMLElement} $
   * @param {object} given
   * @param {(words: string) => void} given.say tell the user, in the place for it
   * @param {Preferences} given.preferences for the token
   * @param {object} given.choices see settings.js
   */
  constructor($, { say, preferences, choices }) {
    Object.assign(this, { $, say, preferences });
    this.status = new SoundStatus($);
    this.form = new WishForm($("wish"), choices, () => this.make());
    this.offers = new Offers($, preferences, (models) => {
      this.form.offer(models);
      this.#show(this.status.name);
    });
    this.picture = new Picture($("picture"), (share) => this.seek(share * this.picture.seconds));
    this.player = null;
    this.opening = null; // the player, while it is opened for something that is wanted
    this.generation = null; // while something is made
    this.take = null; // what was made last
    $("make").addEventListener("click", (event) => {
      if (!this.making) return; // the form is sent off
      event.preventDefault(); // cancelled, the button would send it off
      this.cancel();
    });
    $("play").addEventListener("click", () => this.pause());
    $("save").addEventListener("click", () => this.save());
    $("seek").addEventListener("input", ({ target }) => this.seek(target.valueAsNumber));
    $("keep-seed").addEventListener("click", () => this.form.keepSeed(this.wish.seed));
    $("settings-too").addEventListener("click", () => preferences.open());
    this.#show("idle");
  }

  /** Whether something is wanted that is not all here yet. */
  get making() {
    return Boolean(this.generation || this.opening);
  }

  get made() {
    return Boolean(this.take?.samples);
  }

  /** The view is looked at. */
  shown() {
    this.offers.shown();
    this.picture.invalidate();
  }

  /** Make it, or stop making it. */
  toggle() {
    if (this.making) this.cancel();
    else this.make();
  }

  /** What the keyboard's space does: the sound on and off, or the first sound. */
  play() {
    if (this.made) this.pause();
    else this.toggle();
  }

  async make() {
    if (this.making || !this.form.model) return;
    const wish = this.form.read();
    if (!wish) return;
    const blocked = silence();
    if (blocked) return this.say(blocked);
    this.say("");
    this.player?.stop(); // what was made before
    const opening = (this.opening = this.#open(wish.model.sample_rate));
    this.#show("asking");
    try {
      await opening;
      if (this.opening === opening) this.#begin(wish);
    } catch (error) {
      if (this.opening !== opening) return; // cancelled meanwhile
      this.opening = null;
      this.#show("failed");
      this.say(explain(error));
    }
  }

  cancel() {
    if (!this.making) return;
    this.opening = null;
    this.generation?.cancel();
    this.generation = null;
    this.player?.stop();
    this.#show("cancelled");
  }

  /** The sound on and off, from the beginning where it has ended. */
  pause() {
    if (!this.made) return;
    if (this.status.sounding) {
      this.player.pause();
      this.#show("paused");
    } else if (this.status.name === "paused") {
      this.player.resume();
      this.#show("playing");
    } else {
      this.#playFrom(this.position >= this.take.samples ? 0 : this.position);
    }
  }

  /** @param {number} seconds */
  seek(seconds) {
    if (!this.made) return;
    this.#playFrom(Math.round(Math.min(Math.max(0, seconds), this.take.seconds) * this.take.rate));
  }

  save() {
    if (!this.made) return;
    const name = this.wish.name.slice(0, NAME).replaceAll(" ", "_");
    save(new Blob(this.take.wav(), { type: "audio/wav" }), `${name}-${this.wish.seed}.wav`);
  }

  /** A player for the rate, made in the gesture of the user. */
  async #open(rate) {
    if (this.player?.suits(rate)) return this.player.ready();
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
    this.position = 0; // of the next sample that is played
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
      onBegin: ({ label }) => label !== null && take.mark(label),
      onSound: (samples) => this.#sound(samples),
      onState: (name, detail) => name !== "making" && this.#ended(name, detail),
    });
    this.speed = this.generation;
    this.#show("asking");
  }

  #sound(samples) {
    this.take.add(samples);
    this.picture.add(samples);
    this.player.feed(floats(samples));
    this.#show(this.status.name);
  }

  /** Nothing more comes; what is here is played to its end. */
  #ended(name, detail) {
    this.generation = null;
    this.player.end();
    this.picture.finish();
    this.#show(this.status.name);
    if (name === "failed") this.#explain(detail);
  }

  async #explain(detail) {
    if (!detail.reached) {
      this.player.stop();
      this.#show("failed");
    }
    let { code, words } = { code: detail.code, words: unmade(detail) };
    if (code === UNREACHED && !detail.ready) {
      ({ code, words } = await whyClosed(location.href, this.preferences.token));
    }
    this.say(words);
    if (code === UNAUTHORIZED) this.preferences.askForToken();
  }

  #heard({ position, state }) {
    this.position = position;
    this.furthest = Math.max(this.furthest, position);
    this.generation?.listened(this.furthest / this.take.rate);
    this.picture.heard(position / this.take.rate);
    if (state === "ended") this.#show("done");
    else if (this.status.name === "paused") this.#show("paused"); // told before it was
    else this.#show(position || state === "playing" ? state : "asking");
  }

  #playFrom(sample) {
    this.position = sample;
    this.player.begin(sample);
    this.player.feed(this.take.from(sample));
    if (!this.generation) this.player.end();
    this.picture.heard(sample / this.take.rate);
    this.#show("playing");
  }

  /** The state, and all that follows from what there is. */
  #show(name) {
    this.status.show(name);
    this.status.buttons({ can: Boolean(this.form.model), making: this.making, made: this.made });
    if (!this.take) return;
    const { take, speed, wish } = this;
    this.status.position(this.position / take.rate, this.generation ? this.picture.seconds : take.seconds);
    const { factor, firstAfter } = speed;
    this.status.figures({ seconds: take.seconds, factor, firstAfter, seed: wish.seed });
  }
}
