import assert from "node:assert/strict";
import { test } from "node:test";
import { cues, json, srt, txt, vtt } from "../../../streaming/web/exports.js";
import { text, Transcript } from "../../../streaming/web/transcript.js";

const word = (w, start, end, conf = 0.9) => ({ word: w, start, end, conf });
const final = (utterance, words, start = words[0].start, end = words.at(-1).end) =>
  ({ type: "final", utterance, channel: 0, start, end, words, text: words.map((w) => w.word).join(" "), confidence: 0.8 });

function talk(count, step = 0.4) {
  return Array.from({ length: count }, (_, i) => word(`word${i}`, i * step, (i + 1) * step));
}

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

/** Numbers in 0..1 that are the same in each run. */
function* draws(seed) {
  for (let x = seed; ; ) yield (x = (x * 48271) % 2147483647) / 2147483647;
}

test("any talk becomes cues that players and readers accept", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const draw = draws(seed * 7919);
    const next = () => draw.next().value;
    const t = new Transcript();
    let now = 0;
    for (let utterance = 0; utterance < 12; utterance++) {
      const words = Array.from({ length: 1 + Math.floor(next() * 20) }, () => {
        const start = now + next() * 0.3;
        now = start + 0.08 + next() * 0.5;
        return word("abcdefghijklmnop".slice(0, 1 + Math.floor(next() * 12)), start, now);
      });
      t.apply(final(utterance, words));
      now += next() ** 3 * 4;
    }
    const all = cues(t.lines);
    for (const [i, cue] of all.entries()) {
      const seconds = cue.end - cue.start;
      assert.ok(seconds >= 1 - 1e-9 && seconds <= 7 + 1e-9, `${seconds} s in talk ${seed}`);
      assert.ok(cue.rows.length <= 2 && cue.rows.every((row) => row.length <= 42));
      if (i) assert.ok(cue.start >= all[i - 1].end - 1e-9, `overlap in talk ${seed}`);
    }
    assert.equal(all.flatMap((cue) => cue.rows).join(" "), t.lines.map(text).join(" "));
  }
});

test("a cue that would be gone at once is put together with the next", () => {
  const t = new Transcript();
  t.apply(final(0, [word("yes", 0, 0.3)]));
  t.apply(final(1, [word("indeed", 0.8, 1.4)]));
  assert.deepEqual(cues(t.lines).map((cue) => [cue.start, cue.end, cue.rows]), [[0, 1.4, ["yes indeed"]]]);
});

test("marks of WebVTT in words are written as what they mean", () => {
  const t = new Transcript();
  t.apply(final(0, [word("a<b>&c", 0, 2)]));
  assert.match(vtt(t.lines), /\na&lt;b&gt;&amp;c\n/);
  assert.match(srt(t.lines), /\na<b>&c\n/);
});
