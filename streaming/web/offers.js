// What the server can make, asked for when it is wanted to be known; or why it is not told.

import { voices } from "./probe.js";

const UNAUTHORIZED = 4401;

export class Offers {
  /**
   * @param {(id: string) => HTMLElement} $
   * @param {Preferences} preferences
   * @param {(models: object[]) => void} onModels as `ready.generator` describes them, at least one
   */
  constructor($, preferences, onModels) {
    Object.assign(this, { $, preferences, onModels });
    this.told = false; // the server has said it, or is about to
    this.refused = null; // the token that it was not said to
    for (const id of ["look-again", "look-once-more"]) $(id).addEventListener("click", () => this.ask(true));
    $("settings").addEventListener("close", () => {
      if (!this.told && this.refused !== null && this.refused !== preferences.token) this.ask();
    });
  }

  /** The view is looked at. */
  shown() {
    if (!this.told) this.ask();
  }

  /** @param {boolean} [insist] ask the user for a token again; else once for each that was refused */
  async ask(insist = false) {
    this.told = true;
    const { token } = this.preferences;
    const { models, code, words } = await voices(location.href, token);
    this.told = !words;
    this.$("wish").hidden = !models.length;
    this.$("none").hidden = models.length > 0 || Boolean(words);
    this.$("unasked").hidden = !words;
    this.$("unasked-why").textContent = words;
    if (code === UNAUTHORIZED && (insist || this.refused !== token)) this.preferences.askForToken();
    this.refused = code === UNAUTHORIZED ? token : null;
    if (models.length) this.onModels(models);
  }
}
