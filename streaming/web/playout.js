// What waits to be played: blocks in, any number of samples out. Runs on the audio thread, and in tests.
//
// It begins when a little waits, and after each time that it ran dry when twice as much does: sound
// that comes slower than it is played has few long pauses, not many short ones.

const FIRST_S = 0.15;
const MOST_S = 3; // below what the server may send ahead, or it would wait forever
const FADE = 0.96; // a sample: the last value dies away in a hundred, without a click

export class Playout {
  /** @param {number} rate samples a second */
  constructor(rate) {
    this.rate = rate;
    this.tail = 0;
    this.begin(0);
    this.state = "ended";
  }

  /** Forget what waits; what comes now has this place in the whole. */
  begin(position) {
    this.blocks = [];
    this.held = 0;
    this.used = 0; // of the first block
    this.position = position; // of the next sample that is played
    this.ending = false;
    this.need = FIRST_S * this.rate;
    this.state = "waiting";
  }

  /** @param {Float32Array} samples */
  feed(samples) {
    if (samples.length) this.blocks.push(samples);
    this.held += samples.length;
  }

  /** Nothing follows. */
  end() {
    this.ending = true;
  }

  /** Fill `out`, with silence where nothing waits. */
  pull(out) {
    if (this.state === "waiting" && this.held && (this.ending || this.held >= this.need)) this.state = "playing";
    const count = this.state === "playing" ? this.#copy(out) : 0;
    for (let i = count; i < out.length; i++) out[i] = this.tail *= FADE;
    if (this.held === 0 && this.ending) {
      this.state = "ended";
    } else if (this.state === "playing" && count < out.length) {
      this.state = "waiting";
      this.need = Math.min(2 * this.need, MOST_S * this.rate);
    }
  }

  #copy(out) {
    let done = 0;
    while (done < out.length && this.blocks.length) {
      const [block] = this.blocks;
      const part = block.subarray(this.used, this.used + out.length - done);
      out.set(part, done);
      done += part.length;
      this.used += part.length;
      if (this.used === block.length) {
        this.blocks.shift();
        this.used = 0;
      }
    }
    this.held -= done;
    this.position += done;
    if (done) this.tail = out[done - 1];
    return done;
  }
}
