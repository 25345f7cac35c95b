// Plays sound as it comes. The browser resamples: its context has the rate of the sound.

import { inTime } from "./capture.js";

const LOWEST_HZ = 8000; // what the server sends
const HIGHEST_HZ = 48_000;

/** Why this page cannot play, in words for its user, or null if it can. */
export function silence() {
  if (!window.isSecureContext) {
    return (
      "Browsers let only secure pages play sound while it comes. " +
      `Open https://${location.host}${location.pathname}, or reach this server as localhost (an SSH tunnel will do).`
    );
  }
  if (!window.AudioWorkletNode) return "This browser has no AudioWorklet; a newer one is needed.";
  return null;
}

export class Player {
  /**
   * Open the sound of the browser; call it in a gesture of the user.
   * @param {number} rate of the sound, in Hz; see `rate` of the result for what it became
   * @param {(heard: {position: number, state: string}) => void} onHeard some 25 times a second: which sample
   *   is next, and whether it is "playing", "waiting" for more, or "ended"
   */
  static async open(rate, onHeard) {
    const wanted = Math.min(HIGHEST_HZ, Math.max(LOWEST_HZ, rate));
    let context;
    try {
      context = new AudioContext({ sampleRate: wanted });
    } catch {
      context = new AudioContext(); // a rate this browser cannot: the server resamples
    }
    try {
      await inTime(context.resume());
      await context.audioWorklet.addModule(new URL("playout-worklet.js", import.meta.url));
      return new Player(context, wanted, onHeard);
    } catch (error) {
      await context.close();
      throw error;
    }
  }

  constructor(context, wanted, onHeard) {
    Object.assign(this, { context, wanted, onHeard });
    this.turn = 0;
    this.stopped = true;
    this.node = new AudioWorkletNode(context, "playout", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => {
      if (data.turn !== this.turn) return; // of what was played before
      if (data.state === "ended") this.pause(); // an idle context costs battery
      if (!this.stopped) this.onHeard(data);
    };
    this.node.connect(context.destination);
  }

  get rate() {
    return this.context.sampleRate;
  }

  /** Whether it can play sound of this rate as it is. */
  suits(rate) {
    return this.wanted === Math.min(HIGHEST_HZ, Math.max(LOWEST_HZ, rate));
  }

  /**
   * Run, before something begins. What was played before says nothing any more: its end, told late, would
   * suspend a context that is just starting, whose promise then stays open.
   */
  ready() {
    this.turn += 1;
    return inTime(this.context.resume());
  }

  /** Forget what waits, and play what is fed from now on, whose first sample has this place. */
  begin(position) {
    this.turn += 1;
    this.stopped = false;
    this.node.port.postMessage({ begin: position, turn: this.turn });
    return this.resume();
  }

  /** @param {Float32Array} samples -1..1, given away */
  feed(samples) {
    this.node.port.postMessage({ samples }, [samples.buffer]);
  }

  /** Nothing follows. */
  end() {
    this.node.port.postMessage({ end: true });
  }

  /** Be silent at once, and say nothing any more. */
  stop() {
    this.turn += 1;
    this.stopped = true;
    this.node.port.postMessage({ begin: 0, turn: this.turn, end: true });
  }

  pause() {
    return this.context.suspend();
  }

  resume() {
    return this.context.resume();
  }

  close() {
    return this.context.close();
  }
}
