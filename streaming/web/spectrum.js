// Columns of a spectrogram from samples in blocks of any size.

import { Fft } from "./fft.js";

export const COLUMN_S = 0.0125;
const WINDOW_S = 0.025;
const LOW_HZ = 70;
const HIGH_HZ = 7600;
const FLOOR_DB = -95; // full-scale sine = about 0
const CEILING_DB = -20;

const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
const hertz = (m) => 700 * (10 ** (m / 2595) - 1);

export class Spectrum {
  /**
   * @param {number} rate samples a second
   * @param {number} rows rows of a column, low frequencies first, evenly spaced in mel
   * @param {number} [columnS] seconds from one column to the next
   */
  constructor(rate, rows, columnS = COLUMN_S) {
    this.rate = rate;
    this.columnS = columnS;
    this.window = Math.round(rate * WINDOW_S);
    this.fft = new Fft(2 ** Math.ceil(Math.log2(this.window)));
    this.hann = Float32Array.from({ length: this.window }, (_, i) =>
      0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.window));
    this.frame = new Float32Array(this.window);
    this.power = new Float32Array(this.fft.size / 2 + 1);
    this.held = new Float32Array(0);
    this.fed = 0; // samples before `held`
    this.columns = 0;
    const high = mel(Math.min(HIGH_HZ, rate / 2));
    this.edges = Array.from({ length: rows + 1 }, (_, i) =>
      (hertz(mel(LOW_HZ) + ((high - mel(LOW_HZ)) * i) / rows) * this.fft.size) / rate);
  }

  /** Take samples; return the columns they complete, each `rows` values 0..255. */
  feed(samples) {
    const all = new Float32Array(this.held.length + samples.length);
    all.set(this.held);
    all.set(samples, this.held.length);
    const done = [];
    // The place of a column is computed from its number, so that it does not drift with the rate.
    let at = this.#start() - this.fed;
    while (at + this.window <= all.length) {
      done.push(this.#column(all.subarray(at, at + this.window)));
      this.columns += 1;
      at = this.#start() - this.fed;
    }
    const keep = Math.min(at, all.length);
    this.held = all.slice(keep);
    this.fed += keep;
    return done;
  }

  #start() {
    return Math.round(this.columns * this.columnS * this.rate);
  }

  #column(samples) {
    for (let i = 0; i < this.window; i++) this.frame[i] = samples[i] * this.hann[i];
    this.fft.power(this.frame, this.power);
    const column = new Uint8ClampedArray(this.edges.length - 1);
    const scale = 16 / (this.window * this.window); // Hann halves the amplitude, a sine has two bins
    for (let row = 0; row < column.length; row++) {
      const low = Math.floor(this.edges[row]);
      const high = Math.max(low + 1, Math.ceil(this.edges[row + 1]));
      let strongest = 0;
      for (let k = low; k < high; k++) if (this.power[k] > strongest) strongest = this.power[k];
      const db = 10 * Math.log10(strongest * scale + 1e-12);
      column[row] = (255 * (db - FLOOR_DB)) / (CEILING_DB - FLOOR_DB);
    }
    return column;
  }
}
