// Runs on the audio thread: plays what waits, and tells how far it is.

import { Playout } from "./playout.js";

const TELL_S = 0.04;

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.playout = new Playout(sampleRate);
    this.untold = 0;
    this.told = this.playout.state;
    this.port.onmessage = ({ data }) => {
      if (data.begin !== undefined) this.begun(data);
      if (data.samples) this.playout.feed(data.samples);
      if (data.end) this.playout.end();
    };
  }

  begun({ begin, turn }) {
    this.playout.begin(begin);
    this.turn = turn; // what is told from now on is of this one
    this.told = "";
  }

  process(inputs, [[out]]) {
    const { playout } = this;
    playout.pull(out);
    this.untold += out.length;
    if (playout.state !== this.told || (playout.state === "playing" && this.untold >= TELL_S * sampleRate)) {
      this.told = playout.state;
      this.untold = 0;
      this.port.postMessage({ turn: this.turn, position: playout.position, state: playout.state });
    }
    return true;
  }
}

registerProcessor("playout", Player);
