// How loud it is: the mean as a bar, the peak as a tick that falls slowly.

import { meterPosition } from "./pcm.js";

const FALL = 0.97; // a block of 20 ms: 13 dB a second
const TOLD_MS = 1000; // how often the level is told to those who do not see it

export class Meter {
  constructor({ meter, rms, peak }) {
    Object.assign(this, { meter, rms, peak });
    this.held = 0;
    this.told = -Infinity;
  }

  show({ peak, rms }) {
    this.held = Math.max(peak, this.held * FALL);
    this.rms.style.transform = `scaleX(${meterPosition(rms)})`;
    this.peak.style.left = `${100 * meterPosition(this.held)}%`;
    this.peak.style.opacity = this.held > 0.001 ? 1 : 0;
    this.meter.classList.toggle("clipped", peak >= 0.999);
    const now = performance.now();
    if (now - this.told > TOLD_MS) this.#tell(rms, now);
  }

  silent() {
    this.held = 0;
    this.told = -Infinity;
    this.show({ peak: 0, rms: 0 });
  }

  #tell(rms, now) {
    this.told = now;
    const db = Math.max(-60, Math.round(20 * Math.log10(rms + 1e-6)));
    this.meter.setAttribute("aria-valuenow", db);
    this.meter.setAttribute("aria-valuetext", db <= -60 ? "silent" : `${db} decibels`);
  }
}
