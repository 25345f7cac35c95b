// Runs on the audio thread: 20 ms blocks, mixed to mono, straight to the worker.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.size = Math.round(sampleRate * 0.02);
    this.block = new Float32Array(this.size);
    this.filled = 0;
    this.port.onmessage = ({ data }) => (this.out = data.out);
  }

  process([channels]) {
    const count = channels.length ? channels[0].length : 0;
    for (let i = 0; i < count; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.block[this.filled++] = sum / channels.length;
      if (this.filled === this.size) {
        this.out?.postMessage({ samples: this.block }, [this.block.buffer]);
        this.block = new Float32Array(this.size);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
