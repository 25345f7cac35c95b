import assert from "node:assert/strict";
import { test } from "node:test";
import { levels, meterPosition, mixDown, toS16 } from "../../../streaming/web/pcm.js";

test("float samples become 16 bit, rounded and clipped", () => {
  const samples = Float32Array.of(0, 0.5, -0.5, 1, -1, 2, -2, 1 / 32768, 0.4 / 32768);
  assert.deepEqual([...toS16(samples)], [0, 16384, -16384, 32767, -32768, 32767, -32768, 1, 0]);
});

test("16 bit samples survive the way through floats", () => {
  const all = Int16Array.from({ length: 65536 }, (_, i) => i - 32768);
  assert.deepEqual(toS16(Float32Array.from(all, (x) => x / 32768)), all);
});

test("channels are mixed to their mean", () => {
  assert.deepEqual([...mixDown([Float32Array.of(1, 0), Float32Array.of(0, -1)])], [0.5, -0.5]);
  const one = Float32Array.of(1);
  assert.equal(mixDown([one]), one);
});

test("a full sine has peak 1 and an RMS of 0.707", () => {
  const sine = Float32Array.from({ length: 1000 }, (_, i) => Math.sin((2 * Math.PI * i) / 100));
  const { peak, rms } = levels(sine);
  assert.ok(Math.abs(peak - 1) < 1e-6 && Math.abs(rms - Math.SQRT1_2) < 1e-6);
  assert.deepEqual(levels(new Float32Array(0)), { peak: 0, rms: 0 });
});

test("the meter spans 60 dB", () => {
  assert.equal(meterPosition(0), 0);
  assert.equal(meterPosition(1), 1);
  assert.ok(Math.abs(meterPosition(10 ** (-30 / 20)) - 0.5) < 1e-9);
});
