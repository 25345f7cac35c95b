// The caption area: a line an utterance, the newest in view unless the reader scrolled away.

import { clock, text } from "./transcript.js";

const NEAR_PX = 60; // this close to the end counts as reading along
const READER_MS = 1500; // scrolling this soon after a wheel, touch or key is the reader's
const UNSURE = 0.6;
const DOUBTFUL = 0.4;

export class Captions {
  /**
   * @param {object} parts list, scroller, jump (button), announcer
   * @param {(line: object) => boolean} parts.canPlay is the sound of this line still here?
   * @param {(seconds: number) => void} parts.onSeek seconds of the line's own session
   */
  constructor({ list, scroller, jump, announcer, canPlay, onSeek }) {
    Object.assign(this, { list, scroller, jump, announcer, canPlay, onSeek });
    this.rows = new Map();
    this.divider = null;
    this.follow = true;
    this.moved = -Infinity;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // Only what the reader does ends the following: growing text scrolls too.
    for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) {
      scroller.addEventListener(kind, () => (this.moved = performance.now()), { passive: true });
    }
    jump.addEventListener("click", () => this.toEnd());
    const observer = new ResizeObserver(() => this.follow && this.toEnd());
    observer.observe(list);
    observer.observe(scroller);
  }

  /** Draw a line, new or changed. Only a final that is new is announced to screen readers. */
  show(line, { announce = false } = {}) {
    const row = this.rows.get(line.key) ?? this.#row(line);
    row.item.classList.toggle("open", !line.final);
    row.item.hidden = !text(line);
    row.time.textContent = clock(line.start);
    row.time.disabled = !this.canPlay(line);
    row.time.setAttribute("aria-label", `${clock(line.start)}, play from here`);
    if (line.final && line.words.length) row.text.replaceChildren(...words(line));
    else row.text.replaceChildren(line.stable, span("unstable", line.unstable));
    if (announce && line.final) this.announcer.textContent = text(line);
    if (this.follow) this.toEnd();
  }

  /** What follows comes from another source; drawn with the first line of it. */
  divide(label) {
    this.divider = label;
  }

  clear() {
    this.list.replaceChildren();
    this.rows.clear();
    this.divider = null;
    this.follow = true;
    this.jump.hidden = true;
  }

  /** After another recording was opened. */
  refreshPlayable() {
    for (const { line, time } of this.rows.values()) time.disabled = !this.canPlay(line);
  }

  /** Mark the line that is being played; null seconds: none is. */
  playing(session, seconds) {
    for (const { line, item } of this.rows.values()) {
      const at = seconds === null || line.session !== session ? null : seconds + line.base;
      item.classList.toggle("playing", at !== null && line.start <= at && at < line.end);
    }
  }

  toEnd() {
    this.follow = true;
    this.jump.hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PX) this.follow = true;
    else if (performance.now() - this.moved < READER_MS) this.follow = false;
    this.jump.hidden = this.follow;
  }

  #row(line) {
    if (this.divider !== null) this.#divide();
    const item = document.createElement("li");
    item.className = "line";
    const time = document.createElement("button");
    time.type = "button";
    time.className = "time";
    time.addEventListener("click", () => this.onSeek(line.start - line.base));
    const body = document.createElement("p");
    body.className = "text";
    item.append(time, body);
    this.list.append(item);
    const row = { item, time, text: body, line };
    this.rows.set(line.key, row);
    return row;
  }

  #divide() {
    const item = document.createElement("li");
    item.className = "divider";
    item.textContent = this.divider;
    this.list.append(item);
    this.divider = null;
  }
}

function words(line) {
  return line.words.flatMap((word, i) => {
    const unsure = word.confidence < UNSURE;
    const mark = word.confidence < DOUBTFUL ? "word doubtful" : "word unsure";
    const node = unsure ? span(mark, word.word) : document.createTextNode(word.word);
    if (unsure) node.title = `${Math.round(word.confidence * 100)} % sure`;
    return i ? [" ", node] : [node];
  });
}

function span(name, content) {
  const node = document.createElement("span");
  node.className = name;
  node.textContent = content;
  return node;
}
