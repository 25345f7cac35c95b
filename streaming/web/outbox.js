// What is to be sent, and what may have to be sent again: the same as the Python client's outbox.
// A line of segments (samples, or a count of silence) and marks, addressed by sample number.

const SAMPLE_BYTES = 2;

export class Outbox {
  /** @param {number} capacity samples kept at most; what was not sent is never dropped */
  constructor(capacity) {
    this.capacity = capacity;
    this.segments = []; // {start, count, samples: Int16Array | null}
    this.marks = new Map(); // flush id -> sample number
    this.marksSent = new Set();
    this.end = 0;
    this.sent = 0;
    this.finished = false;
    this.finishSent = false;
  }

  get unsent() {
    return this.end - this.sent;
  }

  get keptFrom() {
    return this.segments.length ? this.segments[0].start : this.end;
  }

  /** @param {Int16Array} samples */
  feed(samples) {
    if (samples.length) this.#append({ start: this.end, count: samples.length, samples });
  }

  gap(count) {
    if (count > 0) this.#append({ start: this.end, count, samples: null });
  }

  flush(id) {
    this.marks.set(id, this.end);
  }

  flushed(id) {
    this.marks.delete(id);
    this.marksSent.delete(id);
  }

  finish() {
    this.finished = true;
  }

  /** The next message (bytes, or an object for JSON), or null when all was sent. */
  next() {
    const waiting = [...this.marks].filter(([id]) => !this.marksSent.has(id));
    const due = waiting.find(([, at]) => at <= this.sent);
    if (due) {
      this.marksSent.add(due[0]);
      return { type: "flush", id: due[0] };
    }
    const segment = this.segments.find((s) => s.start + s.count > this.sent);
    if (segment) {
      const from = this.sent;
      this.sent = Math.min(segment.start + segment.count, ...waiting.map(([, at]) => at));
      if (!segment.samples) return { type: "gap", samples: this.sent - from };
      return segment.samples.subarray(from - segment.start, this.sent - segment.start);
    }
    if (this.finished && !this.finishSent) {
      this.finishSent = true;
      return { type: "finish" };
    }
    return null;
  }

  /** Audio before `sample` will not be asked for again. */
  forget(sample) {
    this.#drop(Math.min(sample, this.sent));
  }

  /** Send again from `sample` on; what is gone becomes silence. Returns how much is gone. */
  rewind(sample) {
    const lost = Math.max(0, Math.min(this.keptFrom, this.sent) - sample);
    if (lost) this.segments.unshift({ start: sample, count: lost, samples: null });
    this.sent = Math.min(sample, this.sent);
    this.marksSent.clear();
    this.finishSent = false;
    return lost;
  }

  get keptBytes() {
    return this.segments.reduce((sum, s) => sum + (s.samples ? s.count * SAMPLE_BYTES : 0), 0);
  }

  #append(segment) {
    this.segments.push(segment);
    this.end = segment.start + segment.count;
    this.#drop(Math.min(this.sent, this.end - this.capacity));
  }

  #drop(before) {
    let gone = 0;
    while (gone < this.segments.length) {
      const { start, count } = this.segments[gone];
      if (start + count > before) break;
      gone += 1;
    }
    if (gone) this.segments.splice(0, gone);
  }
}
