// What was said so far: lines from events, over several sessions, on one time axis.

export class Transcript {
  constructor() {
    this.lines = []; // in order of time; see #line
    this.base = 0; // seconds before the present session
    this.session = 0;
    this.end = 0;
  }

  /** A new stream: its zero comes after everything that is already here. */
  begin() {
    this.settle();
    this.session += 1;
    this.base = this.end;
  }

  /** The present session has reached this many seconds. */
  reached(seconds) {
    this.end = Math.max(this.end, this.base + seconds);
  }

  /** Take a `partial` or `final`; return the line that changed. */
  apply(event) {
    const key = `${this.session}:${event.channel ?? 0}:${event.utterance}`;
    let line = this.lines.findLast((l) => l.key === key);
    if (!line) {
      line = this.#line(key, event);
      this.lines.push(line);
    } else if (line.final) {
      return line; // finals never change; a resumed stream may repeat what led to them
    }
    line.start = this.base + event.start;
    line.end = this.base + event.end;
    line.words = (event.words ?? []).map((w) => ({
      word: w.word,
      start: this.base + w.start,
      end: this.base + w.end,
      confidence: w.conf ?? 1,
      stable: w.stable ?? true,
    }));
    if (event.type === "final") {
      Object.assign(line, { final: true, stable: event.text, unstable: "", confidence: event.confidence ?? null });
    } else {
      Object.assign(line, { stable: event.stable, unstable: event.unstable });
    }
    this.end = Math.max(this.end, line.end);
    return line;
  }

  /** Nothing more comes for lines that are still open: they stay as they are, never lost. */
  settle() {
    const open = this.lines.filter((line) => !line.final);
    for (const line of open) {
      Object.assign(line, { final: true, stable: text(line), unstable: "" });
    }
    return open;
  }

  clear() {
    Object.assign(this, { lines: [], base: 0, end: 0 });
  }

  /** Plain data for the session storage, and back. */
  save() {
    return { lines: this.lines.filter((line) => text(line)), end: this.end, session: this.session };
  }

  restore(saved) {
    this.lines = saved.lines.map((line) => ({ ...line, final: true, stable: text(line), unstable: "" }));
    this.end = saved.end;
    this.session = saved.session;
  }

  #line(key, event) {
    return {
      key,
      session: this.session,
      base: this.base,
      start: this.base + event.start,
      end: this.base + event.end,
      stable: "",
      unstable: "",
      words: [],
      confidence: null,
      final: false,
    };
  }
}

/** The whole text of a line. */
export const text = (line) => (line.stable + line.unstable).trim();

/** Seconds as m:ss, with hours where there are any. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}
