// Frames are read as streaming/protocol/v1/wire.py writes them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readFrame } from "../../../streaming/web/sound-frame.js";
import { frame } from "./frames.mjs";

test("a frame tells of its recording, its place and its samples", () => {
  const read = readFrame(frame([1, -2, 32_767], { index: 7, rate: 8000, first: 2 ** 33, last: true }));
  assert.deepEqual(
    { ...read, samples: [...read.samples] },
    { index: 7, last: true, rate: 8000, first: 2 ** 33, samples: [1, -2, 32_767] });
  assert.equal(readFrame(frame([1])).last, false);
});

test("a longer header of a later version is stepped over", () => {
  assert.deepEqual([...readFrame(frame([5, 6], { header: 40 })).samples], [5, 6]);
});

test("what is no frame of 16-bit sound is refused", () => {
  const wrong = [
    new ArrayBuffer(8), frame([1], { magic: 1 }), frame([1], { encoding: 2 }), frame([1], { kind: 2 }),
    frame([1, 2]).slice(0, 34), frame([1], { header: 33 }),
  ];
  for (const bytes of wrong) assert.throws(() => readFrame(bytes), /frame/);
});
