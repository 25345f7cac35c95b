// A dropped recording: decoded here, sent in step with its playback or as fast as the server takes it.

import { mixDown } from "./pcm.js";

const RATE = 16_000; // the decoder resamples anyway; this keeps an hour at 230 MB
const STEP_S = 0.04;

export class Recording {
  static async open(file, player) {
    const bytes = await file.arrayBuffer();
    let decoded;
    try {
      decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
    } catch {
      throw new Error(`${file.name} is no sound this browser can read.`);
    }
    const channels = Array.from({ length: decoded.numberOfChannels }, (_, i) => decoded.getChannelData(i));
    return new Recording(file, mixDown(channels), player);
  }

  constructor(file, samples, player) {
    this.live = false;
    this.name = file.name;
    this.sampleRate = RATE;
    this.samples = samples;
    this.at = 0;
    this.stopped = false;
    this.player = player;
    if (player.src) URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(file);
  }

  /**
   * Give all samples to `feed`; resolves at the end, or when stopped.
   * @param {boolean} paced follow the playback, pauses included
   * @param {(samples: Float32Array) => Promise<void>} feed
   * @param {() => Promise<void>} room
   */
  async play(paced, feed, room) {
    if (paced) await this.#start();
    while (this.at < this.samples.length && !this.stopped) {
      if (paced) await new Promise((go) => setTimeout(go, STEP_S * 1000));
      else await room();
      const until = paced && !this.player.ended ? this.player.currentTime * RATE : this.samples.length;
      const most = this.at + RATE * (paced ? 1 : 0.25);
      const end = Math.min(Math.floor(until), most, this.samples.length);
      if (end > this.at) {
        await feed(this.samples.slice(this.at, end));
        this.at = end;
      }
    }
    this.stopped = true;
  }

  async #start() {
    this.player.currentTime = 0;
    try {
      await this.player.play();
    } catch {
      this.player.muted = true; // sound without a gesture is not allowed, silence is
      await this.player.play();
    }
  }

  /** End `play`; the sound stays here to be played again. */
  async close() {
    if (this.stopped) return;
    this.stopped = true;
    this.player.pause();
  }
}
