// Sound cards at 88.2 to 192 kHz: down by a whole factor, since a stream takes at most 48 kHz.

const TAPS_A_FACTOR = 24; // half length of the filter, in samples of the result

export class Decimator {
  /** @param {number} factor whole, at least 1 */
  constructor(factor) {
    this.factor = factor;
    this.taps = lowpass(TAPS_A_FACTOR * factor, 0.46 / factor);
    this.held = new Float32Array(this.taps.length - 1); // silence before the first sample
    this.at = 0; // start of the next window in `held` and what follows
  }

  /** Take samples of any number; return those that are due, 1 in `factor`. */
  feed(samples) {
    if (this.factor === 1) return samples;
    const all = new Float32Array(this.held.length + samples.length);
    all.set(this.held);
    all.set(samples, this.held.length);
    const { taps, factor } = this;
    const out = new Float32Array(Math.max(0, Math.ceil((all.length - taps.length + 1 - this.at) / factor)));
    for (let i = 0; i < out.length; i++, this.at += factor) {
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k] * all[this.at + k];
      out[i] = sum;
    }
    const keep = all.length - taps.length + 1;
    this.held = all.slice(keep);
    this.at -= keep;
    return out;
  }
}

/** A Hann-windowed sinc of 2·half+1 taps, its sum 1; `cutoff` in cycles a sample. */
function lowpass(half, cutoff) {
  const taps = Float32Array.from({ length: 2 * half + 1 }, (_, i) => {
    const t = i - half;
    const sinc = t ? Math.sin(2 * Math.PI * cutoff * t) / (Math.PI * t) : 2 * cutoff;
    return sinc * (0.5 + 0.5 * Math.cos((Math.PI * t) / (half + 1)));
  });
  const sum = taps.reduce((a, b) => a + b, 0);
  return taps.map((tap) => tap / sum);
}
