import assert from "node:assert/strict";
import { test } from "node:test";
import { Fft } from "../../../streaming/web/fft.js";
import { COLUMN_S, Spectrum } from "../../../streaming/web/spectrum.js";

function noise(length, seed = 1) {
  return Float32Array.from({ length }, () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 31 - 1;
  });
}

test("the power spectrum equals the definition", () => {
  const size = 64;
  const samples = noise(50);
  const power = new Fft(size).power(samples, new Float32Array(size / 2 + 1));
  for (let k = 0; k <= size / 2; k++) {
    let re = 0;
    let im = 0;
    samples.forEach((x, n) => {
      re += x * Math.cos((2 * Math.PI * k * n) / size);
      im -= x * Math.sin((2 * Math.PI * k * n) / size);
    });
    assert.ok(Math.abs(power[k] - (re * re + im * im)) < 1e-3, `bin ${k}`);
  }
});

test("a size that is no power of two is refused", () => {
  assert.throws(() => new Fft(48), /power of two, got 48/);
});

test("any chunking gives the same columns", () => {
  const samples = noise(44_100);
  const whole = new Spectrum(44_100, 32).feed(samples);
  const spectrum = new Spectrum(44_100, 32);
  const parts = [];
  for (let at = 0, size = 1; at < samples.length; at += size, size = ((size * 7) % 3001) + 1) {
    parts.push(...spectrum.feed(samples.subarray(at, at + size)));
  }
  assert.ok(Math.abs(whole.length - 1 / COLUMN_S) <= 2);
  assert.deepEqual(parts, whole);
});

for (const rate of [16_000, 44_100, 48_000]) {
  test(`a tone lights the row of its frequency at ${rate} Hz`, () => {
    const rows = 64;
    const spectrum = new Spectrum(rate, rows);
    const row = (hz) => {
      const sine = Float32Array.from({ length: rate / 10 }, (_, i) => 0.1 * Math.sin((2 * Math.PI * hz * i) / rate));
      const column = new Spectrum(rate, rows).feed(sine)[2];
      return column.indexOf(Math.max(...column));
    };
    for (const hz of [400, 1000, 3000, 6000]) {
      const at = (hz * spectrum.fft.size) / rate;
      const expected = spectrum.edges.findIndex((edge, i) => edge <= at && at < spectrum.edges[i + 1]);
      assert.ok(Math.abs(row(hz) - expected) <= 1, `${hz} Hz: row ${row(hz)}, expected ${expected}`);
    }
  });
}

test("silence is dark", () => {
  const columns = new Spectrum(16_000, 16).feed(new Float32Array(16_000));
  assert.ok(columns.every((column) => column.every((value) => value === 0)));
});
