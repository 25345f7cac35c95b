// The power spectrum of real samples: radix-2, in place, tables made once a size.

export class Fft {
  /** @param {number} size a power of two */
  constructor(size) {
    if (size < 2 || (size & (size - 1)) !== 0) throw new RangeError(`size: a power of two, got ${size}`);
    this.size = size;
    this.re = new Float64Array(size);
    this.im = new Float64Array(size);
    this.cos = new Float64Array(size / 2);
    this.sin = new Float64Array(size / 2);
    this.reversed = new Uint32Array(size);
    const bits = Math.log2(size);
    for (let i = 0; i < size / 2; i++) {
      this.cos[i] = Math.cos((2 * Math.PI * i) / size);
      this.sin[i] = -Math.sin((2 * Math.PI * i) / size);
    }
    for (let i = 1; i < size; i++) {
      this.reversed[i] = (this.reversed[i >> 1] >> 1) | ((i & 1) << (bits - 1));
    }
  }

  /**
   * Power of the bins 0..size/2 of `samples`, which are padded with zeros.
   * @param {Float32Array} samples at most `size`
   * @param {Float32Array} power size/2 + 1, overwritten
   */
  power(samples, power) {
    const { size, re, im, reversed } = this;
    for (let i = 0; i < size; i++) {
      const from = reversed[i];
      re[i] = from < samples.length ? samples[from] : 0;
      im[i] = 0;
    }
    for (let half = 1; half < size; half *= 2) this.#butterflies(half);
    for (let k = 0; k <= size / 2; k++) power[k] = re[k] * re[k] + im[k] * im[k];
    return power;
  }

  #butterflies(half) {
    const { size, re, im, cos, sin } = this;
    const stride = size / (2 * half);
    for (let start = 0; start < size; start += 2 * half) {
      for (let i = 0; i < half; i++) {
        const a = start + i;
        const b = a + half;
        const wr = cos[i * stride];
        const wi = sin[i * stride];
        const tr = re[b] * wr - im[b] * wi;
        const ti = re[b] * wi + im[b] * wr;
        re[b] = re[a] - tr;
        im[b] = im[a] - ti;
        re[a] += tr;
        im[a] += ti;
      }
    }
  }
}
