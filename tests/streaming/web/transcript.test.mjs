import assert from "node:assert/strict";
import { test } from "node:test";
import { cues, json, srt, txt, vtt } from "../../../streaming/web/exports.js";
import { clock, text, Transcript } from "../../../streaming/web/transcript.js";

const word = (w, start, end, conf = 0.9) => ({ word: w, start, end, conf });
const partial = (utterance, stable, unstable, start = 0, end = 1) =>
  ({ type: "partial", utterance, channel: 0, start, end, stable, unstable });
const final = (utterance, words, start = words[0].start, end = words.at(-1).end) =>
  ({ type: "final", utterance, channel: 0, start, end, words, text: words.map((w) => w.word).join(" "), confidence: 0.8 });

function talk(count, step = 0.4) {
  return Array.from({ length: count }, (_, i) => word(`word${i}`, i * step, (i + 1) * step));
}

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

test("subtitles have at most two rows of 42 columns and 1 to 7 seconds", () => {
  const t = new Transcript();
  t.apply(final(0, talk(60)));
  t.apply(final(1, [word("yes", 30, 30.2)]));
  const all = cues(t.lines);
  assert.ok(all.length > 3);
  for (const [i, cue] of all.entries()) {
    assert.ok(cue.rows.length <= 2 && cue.rows.every((row) => row.length <= 42));
    assert.ok(cue.end - cue.start >= 1 - 1e-9 && cue.end - cue.start <= 7 + 1e-9);
    if (i) assert.ok(cue.start >= all[i - 1].end);
  }
  assert.equal(all.flatMap((cue) => cue.rows).join(" "), t.lines.map(text).join(" "));
});

test("a pause ends a subtitle", () => {
  const t = new Transcript();
  t.apply(final(0, [word("before", 0, 0.5), word("after", 3, 3.5)]));
  assert.deepEqual(cues(t.lines).map((cue) => [cue.start, cue.end, cue.rows]), [
    [0, 1, ["before"]], [3, 4, ["after"]],
  ]);
});

test("srt, vtt, txt and json say the same", () => {
  const t = new Transcript();
  t.apply(final(0, [word("hello", 3661.5, 3662), word("there", 3662, 3663.25)]));
  assert.equal(srt(t.lines), "1\n01:01:01,500 --> 01:01:03,250\nhello there\n");
  assert.equal(vtt(t.lines), "WEBVTT\n\n01:01:01.500 --> 01:01:03.250\nhello there\n");
  assert.equal(txt(t.lines), "hello there\n");
  const read = JSON.parse(json(t.lines, { model: "m" }));
  assert.deepEqual([read.model, read.text, read.lines[0].words[1].word], ["m", "hello there", "there"]);
});

test("lines without word times are spread evenly", () => {
  const t = new Transcript();
  t.apply({ ...final(0, talk(2)), words: undefined, start: 0, end: 4 });
  assert.deepEqual(cues(t.lines).map((cue) => [cue.start, cue.end]), [[0, 4]]);
});

test("clocks show hours only where there are any", () => {
  assert.deepEqual([0, 59.9, 61, 3600].map(clock), ["0:00", "0:59", "1:01", "1:00:00"]);
});
