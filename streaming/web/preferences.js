// The settings dialog, and the size of the captions.

import { saveChoices } from "./settings.js";

const SWITCHES = ["noiseSuppression", "echoCancellation", "autoGainControl"];
const SMALLEST = -3;
const LARGEST = 6;
const STEP = 1.12;

export class Preferences {
  /**
   * @param {(id: string) => HTMLElement} $ settings, settings-open, silence-value, smaller, larger
   * @param {object} choices see settings.js; changed in place
   * @param {() => void} onSound how the microphone is opened has changed
   */
  constructor($, choices, onSound) {
    Object.assign(this, { $, choices, onSound });
    this.dialog = $("settings");
    this.form = this.dialog.querySelector("form");
    $("settings-open").addEventListener("click", () => this.open());
    this.dialog.addEventListener("click", ({ target }) => target === this.dialog && this.dialog.close());
    this.form.addEventListener("input", ({ target }) => this.#changed(target));
    $("smaller").addEventListener("click", () => this.resize(-1));
    $("larger").addEventListener("click", () => this.resize(1));
    this.#fill();
    this.resize(0);
  }

  /** The token is kept in the form alone: nothing of it is stored. */
  get token() {
    return this.form.token.value.trim();
  }

  open() {
    this.dialog.showModal();
  }

  askForToken() {
    this.open();
    this.form.token.focus();
  }

  resize(step) {
    this.choices.size = Math.min(LARGEST, Math.max(SMALLEST, this.choices.size + step));
    document.documentElement.style.setProperty("--scale", STEP ** this.choices.size);
    saveChoices(this.choices);
  }

  #fill() {
    for (const name of SWITCHES) this.form[name].checked = this.choices[name];
    this.form.silenceMs.value = this.choices.silenceMs;
    this.form.paced.value = this.choices.paced ? "yes" : "";
    this.#tell();
  }

  #changed(field) {
    if (field.name === "token") return;
    if (field.type === "checkbox") this.choices[field.name] = field.checked;
    else if (field.name === "paced") this.choices.paced = Boolean(this.form.paced.value);
    else this.choices[field.name] = field.value;
    this.#tell();
    saveChoices(this.choices);
    if (SWITCHES.includes(field.name)) this.onSound();
  }

  #tell() {
    const silence = Number(this.form.silenceMs.value);
    const words = silence ? `after ${(silence / 1000).toFixed(1)} s of silence` : "when it sounds finished";
    this.$("silence-value").textContent = words;
    this.form.silenceMs.setAttribute("aria-valuetext", words);
  }
}
