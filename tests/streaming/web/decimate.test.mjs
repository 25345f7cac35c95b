import assert from "node:assert/strict";
import { test } from "node:test";
import { Decimator } from "../../../streaming/web/decimate.js";

const tone = (hz, rate, count) => Float32Array.from({ length: count }, (_, i) => Math.sin((2 * Math.PI * hz * i) / rate));
const rms = (x) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);

test("a factor of one changes nothing", () => {
  const samples = tone(440, 48_000, 100);
  assert.equal(new Decimator(1).feed(samples), samples);
});

test("one sample of each `factor` comes out, whatever the blocks", () => {
  const samples = tone(440, 192_000, 4003);
  const whole = new Decimator(4).feed(samples);
  const cut = new Decimator(4);
  const parts = [0, 1, 2, 960, 961, 2500, 4003].map((end, i, all) => cut.feed(samples.subarray(all[i - 1] ?? 0, end)));
  assert.equal(whole.length, Math.ceil(4003 / 4));
  assert.deepEqual(parts.flatMap((p) => [...p]), [...whole]);
});

test("speech passes, what would fold back does not", () => {
  const settled = (hz) => new Decimator(2).feed(tone(hz, 96_000, 9600)).subarray(200);
  assert.ok(Math.abs(rms(settled(1000)) - Math.SQRT1_2) < 0.001);
  assert.ok(Math.abs(rms(settled(15_000)) - Math.SQRT1_2) < 0.02);
  assert.ok(rms(settled(30_000)) < 0.002);
});
