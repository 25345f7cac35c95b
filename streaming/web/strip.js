// The moving strip: sound above, the words under the moment they were spoken.

import { onRecolour, ramp } from "./colours.js";
import { COLUMN_S } from "./spectrum.js";

export const ROWS = 72;
const PIXELS_A_COLUMN = 1;
const LANES = 3;
const LANE = 20; // CSS pixels
const KEPT = 4096; // columns, for drawing again at another width or in other colours

export class Strip {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d");
    this.ring = document.createElement("canvas");
    this.ring.height = ROWS;
    this.ringPaint = this.ring.getContext("2d", { willReadFrequently: true });
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.lines = () => [];
    this.reset(0);
    new ResizeObserver(() => this.#resize()).observe(canvas);
    onRecolour(() => this.recolour());
    this.recolour();
  }

  /** Begin a session whose zero stands at `base` seconds. */
  reset(base) {
    this.base = base;
    this.columns = 0;
    this.history = [];
    this.ringPaint.clearRect(0, 0, this.ring.width, ROWS);
    this.invalidate();
  }

  add(columns) {
    for (const column of columns) {
      this.history.push(column);
      if (this.history.length > KEPT) this.history.shift();
      this.#column(column, this.columns % this.ring.width);
      this.columns += 1;
    }
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
    this.paperColour = style.getPropertyValue("--paper");
    this.inkColour = style.getPropertyValue("--ink");
    this.paleColour = style.getPropertyValue("--pale");
    this.lineColour = style.getPropertyValue("--line");
    this.accentColour = style.getPropertyValue("--accent");
    this.font = `${style.fontSize} ${style.fontFamily}`;
    this.#repaint();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return; // not shown now
    const scale = devicePixelRatio;
    this.canvas.width = Math.round(clientWidth * scale);
    this.canvas.height = Math.round(clientHeight * scale);
    this.ring.width = Math.max(1, Math.ceil(this.#now() / PIXELS_A_COLUMN));
    this.#repaint();
    this.#draw(); // at once: a canvas is empty after a change of its size
  }

  /** Where the present moment stands, in CSS pixels: words need some room to its right. */
  #now() {
    return this.canvas.clientWidth - Math.min(120, this.canvas.clientWidth * 0.18);
  }

  #repaint() {
    this.ringPaint.clearRect(0, 0, this.ring.width, ROWS);
    const shown = this.history.slice(-this.ring.width);
    const first = this.columns - shown.length;
    shown.forEach((column, i) => this.#column(column, (first + i) % this.ring.width));
    this.invalidate();
  }

  #column(column, x) {
    const image = this.ringPaint.createImageData(1, ROWS);
    for (let row = 0; row < ROWS; row++) {
      const at = column[row] * 4;
      image.data.set(this.colours.subarray(at, at + 4), (ROWS - 1 - row) * 4);
    }
    this.ringPaint.putImageData(image, x, 0);
  }

  #draw() {
    const { paint, canvas, ring } = this;
    const scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const sound = height - LANES * LANE - 8;
    const now = this.#now();
    paint.setTransform(scale, 0, 0, scale, 0, 0);
    paint.clearRect(0, 0, width, height);
    if (!this.columns) return;
    const shown = Math.min(this.columns, ring.width);
    const split = this.columns % ring.width;
    if (this.still.matches) {
      // Motion is not wanted: the pen moves over the paper, not the paper under the pen.
      paint.drawImage(ring, 0, 0, ring.width, ROWS, 0, 0, ring.width * PIXELS_A_COLUMN, sound);
      this.#pen(Math.min(split, now) * PIXELS_A_COLUMN, sound);
      return;
    }
    if (shown === ring.width && split) {
      paint.drawImage(ring, split, 0, ring.width - split, ROWS, now - ring.width, 0, ring.width - split, sound);
    }
    if (split) paint.drawImage(ring, 0, 0, split, ROWS, now - split, 0, split, sound);
    else if (shown) paint.drawImage(ring, now - ring.width, 0, ring.width, sound);
    this.#pen(now, sound);
    this.#words(now, sound);
  }

  #pen(x, sound) {
    const { paint } = this;
    paint.fillStyle = this.accentColour;
    paint.fillRect(Math.round(x), 0, 1, sound);
  }

  #words(now, sound) {
    const { paint } = this;
    const seconds = this.base + this.columns * COLUMN_S;
    const free = new Array(LANES).fill(-Infinity);
    const placed = [];
    paint.font = this.font;
    paint.textBaseline = "middle";
    paint.fillStyle = this.lineColour;
    for (const line of this.lines()) {
      for (const { word, start, stable } of line.words) {
        const x = Math.round(now - ((seconds - start) / COLUMN_S) * PIXELS_A_COLUMN);
        if (x < -160 || start < this.base) continue;
        const lane = free.findIndex((end) => end < x);
        if (lane < 0) continue;
        const y = sound + 16 + lane * LANE;
        free[lane] = x + paint.measureText(word).width + 10;
        paint.fillRect(x, sound, 1, y - sound + 6);
        placed.push({ word, x, y, colour: stable || line.final ? this.inkColour : this.paleColour });
      }
    }
    // A halo of paper keeps the lines of the lower lane out of the words of the upper one.
    paint.strokeStyle = this.paperColour;
    paint.lineWidth = 4;
    paint.lineJoin = "round";
    for (const { word, x, y, colour } of placed) {
      paint.strokeText(word, x + 6, y);
      paint.fillStyle = colour;
      paint.fillText(word, x + 6, y);
    }
  }
}
