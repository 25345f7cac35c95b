// What is told of the sound that is made: the state, the figures, and what the buttons would do.

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
const SOUNDING = ["playing", "waiting"];

export class SoundStatus {
  /** @param {(id: string) => HTMLElement} $ */
  constructor($) {
    this.$ = $;
    this.show("idle");
  }

  get name() {
    return document.body.dataset.sound;
  }

  /** Whether something is played, or would be if it came. */
  get sounding() {
    return SOUNDING.includes(this.name);
  }

  show(name) {
    if (this.name === name) return;
    document.body.dataset.sound = name;
    this.$("sound-state").textContent = LABELS[name];
  }

  /** @param {{can: boolean, making: boolean, made: boolean}} given something can be made, is, was */
  buttons({ can, making, made }) {
    document.body.classList.toggle("making", making);
    this.$("make").disabled = !can;
    this.$("make").type = making ? "button" : "submit"; // Enter in a field sends off, never cancels
    this.$("make-label").textContent = making ? "Cancel" : "Generate";
    for (const id of ["play", "save", "seek"]) this.$(id).disabled = !made;
    const label = this.sounding ? "Pause" : "Play";
    this.$("play").setAttribute("aria-label", label);
    this.$("play").title = `${label} (Space)`;
    this.$("play").querySelector("use").setAttribute("href", this.sounding ? "#i-pause" : "#i-play");
  }

  /** Seconds: heard, of what there will be. */
  position(heard, whole) {
    this.$("position").textContent = `${heard.toFixed(1)} / ${whole.toFixed(1)} s`;
    this.$("seek").value = heard;
    this.$("seek").setAttribute("aria-valuetext", `${heard.toFixed(1)} of ${whole.toFixed(1)} seconds`);
  }

  /** @param {{seconds: number, factor: number|null, firstAfter: number|null, seed: number}} given */
  figures({ seconds, factor, firstAfter, seed }) {
    this.$("made-s").textContent = `${seconds.toFixed(2)} s`;
    this.$("factor").textContent = factor === null ? "–" : factor.toFixed(factor < 0.1 ? 3 : 2);
    this.$("first-after").textContent = firstAfter === null ? "–" : `${Math.round(firstAfter * 1000)} ms`;
    this.$("seed-used").textContent = seed;
  }
}
