// The sound that was made so far, kept to be heard again and to be saved.

const FULL = 32_768;

export class Take {
  /** @param {number} rate samples a second */
  constructor(rate) {
    this.rate = rate;
    this.blocks = []; // Int16Array
    this.samples = 0;
    this.marks = []; // {text, at}: what begins at which sample
  }

  get seconds() {
    return this.samples / this.rate;
  }

  add(block) {
    this.blocks.push(block);
    this.samples += block.length;
  }

  /** What follows is this. */
  mark(text) {
    this.marks.push({ text, at: this.samples });
  }

  /** Everything from a sample on, -1..1. */
  from(sample) {
    const out = new Float32Array(Math.max(0, this.samples - sample));
    let start = 0;
    for (const block of this.blocks) {
      const skip = Math.max(0, sample - start);
      for (let i = skip; i < block.length; i++) out[start + i - sample] = block[i] / FULL;
      start += block.length;
    }
    return out;
  }

  /** A WAV file, in parts as a Blob takes them. */
  wav() {
    const bytes = 2 * this.samples;
    const header = new DataView(new ArrayBuffer(44));
    const text = (at, word) => [...word].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF");
    header.setUint32(4, 36 + bytes, true);
    text(8, "WAVEfmt ");
    header.setUint32(16, 16, true); // bytes of what describes the format
    header.setUint16(20, 1, true); // PCM
    header.setUint16(22, 1, true); // channels
    header.setUint32(24, this.rate, true);
    header.setUint32(28, 2 * this.rate, true); // bytes a second
    header.setUint16(32, 2, true); // bytes of a sample of all channels
    header.setUint16(34, 16, true); // bits
    text(36, "data");
    header.setUint32(40, bytes, true);
    return [header.buffer, ...this.blocks];
  }
}

/** Samples of 16 bit as -1..1. */
export function floats(block) {
  return Float32Array.from(block, (sample) => sample / FULL);
}
