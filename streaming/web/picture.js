// The sound that is made, drawn over its whole length: loudness above, spectrum below, and what is
// said at the place where it begins. What was heard is in full colour.

import { onRecolour, ramp } from "./colours.js";
import { Spectrum } from "./spectrum.js";
import { floats } from "./take.js";

const ROWS = 72;
const FINEST_S = 0.0025; // of a column, for short recordings
const COARSEST_S = 0.0125;
const WORDS = 26; // CSS pixels under the sound
const GAP = 10; // between loudness and spectrum

export class Picture {
  /** @param {HTMLCanvasElement} canvas @param {(share: number) => void} onSeek a place was clicked, 0..1 */
  constructor(canvas, onSeek) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d");
    this.paper = document.createElement("canvas");
    this.paper.height = ROWS;
    this.paperPaint = this.paper.getContext("2d", { willReadFrequently: true });
    this.reset(1, 8000);
    new ResizeObserver(() => this.#resize()).observe(canvas);
    onRecolour(() => this.recolour());
    canvas.addEventListener("click", ({ offsetX }) => onSeek(offsetX / canvas.clientWidth));
    this.recolour();
  }

  /** Begin a recording that will be this long; `marks` is read whenever it is drawn. */
  reset(seconds, rate, marks = []) {
    Object.assign(this, { seconds, rate, marks, played: 0, samples: 0 });
    this.columnS = Math.min(COARSEST_S, Math.max(FINEST_S, seconds / 1200));
    this.spectrum = new Spectrum(rate, ROWS, this.columnS);
    this.columns = [];
    this.peaks = []; // one a column
    this.paperPaint.clearRect(0, 0, this.paper.width, ROWS);
    this.invalidate();
  }

  /** @param {Int16Array} block */
  add(block) {
    const samples = floats(block);
    for (const x of samples) {
      const at = Math.floor(this.samples++ / (this.rate * this.columnS));
      this.peaks[at] = Math.max(this.peaks[at] ?? 0, Math.abs(x));
    }
    this.#columns(this.spectrum.feed(samples));
  }

  /** Nothing follows: what lies within the last window is drawn too. */
  finish() {
    const shown = Math.ceil(this.samples / (this.rate * this.columnS));
    this.#columns(this.spectrum.feed(new Float32Array(this.spectrum.window)).slice(0, shown - this.columns.length));
  }

  /** What was heard: seconds from the beginning. */
  heard(seconds) {
    this.played = seconds;
    this.invalidate();
  }

  invalidate() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  recolour() {
    const style = getComputedStyle(this.canvas);
    this.colours = ramp(style);
    for (const name of ["ink", "quiet", "line", "accent", "hush"]) {
      this[`${name}Colour`] = style.getPropertyValue(`--${name}`);
    }
    this.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    this.#repaint();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return; // not shown now
    this.canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.canvas.height = Math.round(clientHeight * devicePixelRatio);
    this.paper.width = clientWidth;
    this.#repaint();
    this.#draw(); // at once: a canvas is empty after a change of its size
  }

  #repaint() {
    this.paperPaint.clearRect(0, 0, this.paper.width, ROWS);
    for (let pixel = 0; pixel < this.paper.width; pixel++) this.#pixel(pixel);
    this.invalidate();
  }

  #columns(added) {
    for (const column of added) {
      this.columns.push(column);
      this.#column(this.columns.length - 1);
    }
    this.invalidate();
  }

  #column(at) {
    for (let pixel = this.#x(at); pixel < Math.max(this.#x(at) + 1, this.#x(at + 1)); pixel++) this.#pixel(pixel);
  }

  #x(column) {
    return Math.floor((column * this.columnS * this.paper.width) / this.seconds);
  }

  /** The columns that a pixel stands for: the loudest of each row is seen. */
  #pixel(x) {
    const perPixel = this.seconds / this.paper.width / this.columnS;
    const first = Math.floor(x * perPixel);
    const shown = this.columns.slice(first, Math.max(first + 1, Math.floor((x + 1) * perPixel)));
    if (!shown.length) return;
    const image = this.paperPaint.createImageData(1, ROWS);
    for (let row = 0; row < ROWS; row++) {
      const at = 4 * Math.max(...shown.map((column) => column[row]));
      image.data.set(this.colours.subarray(at, at + 4), (ROWS - 1 - row) * 4);
    }
    this.paperPaint.putImageData(image, x, 0);
  }

  #draw() {
    const { paint, canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    paint.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    paint.clearRect(0, 0, width, height);
    const words = this.marks.length ? WORDS : 0;
    const loud = Math.round((height - words) * 0.38);
    const spectrum = { y: loud + GAP, height: height - words - loud - GAP };
    this.#loudness(width, loud);
    paint.drawImage(this.paper, 0, 0, width, ROWS, 0, spectrum.y, width, spectrum.height);
    this.#texts(width, height, spectrum.y + spectrum.height);
    paint.fillStyle = this.accentColour;
    if (this.samples) paint.fillRect(Math.round(this.#place(this.played)), 0, 1.5, spectrum.y + spectrum.height);
  }

  #place(seconds) {
    return (seconds / this.seconds) * this.canvas.clientWidth;
  }

  /** Bars of three pixels' width on a line that reaches to the end of what will be. */
  #loudness(width, height) {
    const { paint } = this;
    const middle = height / 2;
    paint.fillStyle = this.lineColour;
    paint.fillRect(0, middle - 0.5, width, 1);
    const made = this.#place(this.samples / this.rate);
    const heard = this.#place(this.played);
    for (let x = 0; x + 1 < made; x += 3) {
      const first = Math.floor((x / width) * (this.seconds / this.columnS));
      const past = Math.max(first + 1, Math.ceil(((x + 3) / width) * (this.seconds / this.columnS)));
      const peak = this.peaks.slice(first, past).reduce((a, b) => Math.max(a, b), 0);
      const half = Math.max(1, peak * (middle - 1));
      paint.fillStyle = x < heard ? this.accentColour : this.hushColour;
      paint.fillRect(x, middle - half, 2, 2 * half);
    }
  }

  #texts(width, height, top) {
    const { paint } = this;
    paint.font = this.font;
    paint.textBaseline = "alphabetic";
    let free = -Infinity;
    for (const { text, at } of this.marks) {
      const seconds = at / this.rate;
      const x = Math.round(this.#place(seconds));
      paint.fillStyle = this.lineColour;
      paint.fillRect(x, top, 1, height - top - 6);
      if (x + 6 < free) continue; // no room; its tick is there
      paint.fillStyle = seconds <= this.played ? this.inkColour : this.quietColour;
      paint.fillText(text, x + 6, height - 8);
      free = x + 6 + paint.measureText(text).width + 6;
    }
  }
}
