// One stretch of listening: a source of sound, the worker it goes through, the stream it is sent by.

const MOST_HZ = 48_000; // a stream takes 8 to 48 kHz

export class Session {
  /**
   * @param {object} given
   * @param {Capture|Recording} given.source
   * @param {number} given.rows of a column of the spectrogram
   * @param {(sampleRate: number) => Stream} given.connect
   * @param {(sound: {peak: number, rms: number, columns: Uint8ClampedArray[]}) => void} given.onSound
   */
  constructor({ source, rows, connect, onSound }) {
    Object.assign(this, { source, rows, onSound });
    this.muted = false;
    this.stopping = false;
    this.samples = 0; // that time has passed for, sent or not
    this.mutedSamples = 0; // of these, not yet told to the server
    this.marks = new Map();
    const factor = Math.ceil(source.sampleRate / MOST_HZ);
    this.rate = source.sampleRate / factor;
    this.worker = new Worker(new URL("sound-worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.#heard(data);
    this.worker.postMessage({ rate: source.sampleRate, factor, rows });
    this.stream = connect(this.rate);
    if (source.live) source.deliver(this.worker);
  }

  get seconds() {
    return this.samples / this.rate;
  }

  /** Play a recording to its end, or until it is stopped. */
  play(paced) {
    const feed = (samples) => {
      this.worker.postMessage({ samples }, [samples.buffer]);
      return this.#reached();
    };
    return this.source.play(paced, feed, () => this.stream.room());
  }

  /** Muting lets time pass without sound. */
  mute(muted) {
    if (this.muted && !muted) this.#sendMuted();
    this.muted = muted;
    this.source.muted = muted;
  }

  /** Time that nothing was heard in, as when the browser stopped the page. */
  skip(seconds) {
    const count = Math.round(seconds * this.rate);
    this.samples += count;
    this.stream.gap(count);
  }

  /** Go on with another live source. False if it has another rate: that needs a new session. */
  async change(source) {
    if (source.sampleRate !== this.source.sampleRate) return false;
    const former = this.source;
    this.source = source;
    source.muted = this.muted;
    source.deliver(this.worker);
    await former.close();
    return true;
  }

  /** No more sound; what was heard is still sent. A second time: do not wait for the words either. */
  async stop() {
    if (this.stopping) return this.stream.close();
    this.stopping = true;
    this.mute(false);
    await this.source.close();
    await this.#reached();
    this.stream.finish();
  }

  /** The stream has ended: let go of everything. */
  release() {
    this.source.close();
    this.worker.terminate();
    for (const go of this.marks.values()) go();
  }

  /** Resolves when everything given to the worker so far has come back. */
  #reached() {
    const mark = this.marks.size ? Math.max(...this.marks.keys()) + 1 : 0;
    this.worker.postMessage({ mark });
    return new Promise((resolve) => this.marks.set(mark, resolve));
  }

  #heard({ mark, pcm, ...sound }) {
    if (mark !== undefined) {
      this.marks.get(mark)?.();
      this.marks.delete(mark);
      return;
    }
    this.samples += pcm.length;
    if (this.muted) {
      this.mutedSamples += pcm.length;
      if (this.mutedSamples >= this.rate) this.#sendMuted();
    } else {
      this.stream.feed(pcm);
    }
    this.onSound(sound);
  }

  #sendMuted() {
    this.stream.gap(this.mutedSamples);
    this.mutedSamples = 0;
  }
}
