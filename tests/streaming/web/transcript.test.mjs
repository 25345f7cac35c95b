import assert from "node:assert/strict";
import { test } from "node:test";
import { clock, text, Transcript } from "../../../streaming/web/transcript.js";

const word = (w, start, end, conf = 0.9) => ({ word: w, start, end, conf });
const partial = (utterance, stable, unstable, start = 0, end = 1) =>
  ({ type: "partial", utterance, channel: 0, start, end, stable, unstable });
const final = (utterance, words, start = words[0].start, end = words.at(-1).end) =>
  ({ type: "final", utterance, channel: 0, start, end, words, text: words.map((w) => w.word).join(" "), confidence: 0.8 });

test("partials replace each other, a final stays", () => {
  const t = new Transcript();
  t.apply(partial(0, "", "hel"));
  const line = t.apply(partial(0, "hello ", "wor"));
  assert.equal(text(line), "hello wor");
  t.apply(final(0, [word("hello", 0, 0.5), word("world", 0.5, 1)]));
  t.apply(partial(0, "hello ", "again"));
  assert.equal(t.lines.length, 1);
  assert.equal(text(t.lines[0]), "hello world");
});

test("a second session goes on after the first on the time axis", () => {
  const t = new Transcript();
  t.begin();
  t.apply(final(0, [word("one", 0.5, 1)]));
  t.reached(10);
  t.begin();
  const line = t.apply(final(0, [word("two", 0.5, 1)]));
  assert.equal(t.lines.length, 2);
  assert.equal(line.start, 10.5);
  assert.equal(line.words[0].start, 10.5);
});

test("what was open when a stream ended is kept", () => {
  const t = new Transcript();
  t.apply(partial(0, "so ", "far"));
  t.settle();
  assert.deepEqual([t.lines[0].final, text(t.lines[0])], [true, "so far"]);
});

test("a transcript survives saving", () => {
  const t = new Transcript();
  t.begin();
  t.apply(final(0, [word("one", 0.5, 1)]));
  const back = new Transcript();
  back.restore(JSON.parse(JSON.stringify(t.save())));
  assert.deepEqual(back.save(), t.save());
});

test("clocks show hours only where there are any", () => {
  assert.deepEqual([0, 59.9, 61, 3600].map(clock), ["0:00", "0:59", "1:01", "1:00:00"]);
});
