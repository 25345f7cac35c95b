// What was made is kept to the sample.

import assert from "node:assert/strict";
import { test } from "node:test";
import { floats, Take } from "../../../streaming/web/take.js";

function taken() {
  const take = new Take(8000);
  take.mark("one");
  take.add(Int16Array.of(0, 16_384, -32_768));
  take.mark("two");
  take.add(Int16Array.of(8192, -8192));
  return take;
}

test("any part is given back as it came", () => {
  const take = taken();
  const whole = [0, 0.5, -1, 0.25, -0.25];
  for (let start = 0; start <= 6; start++) assert.deepEqual([...take.from(start)], whole.slice(start));
  assert.deepEqual([...floats(Int16Array.of(16_384))], [0.5]);
  assert.equal(take.seconds, 5 / 8000);
});

test("what is said is marked where it begins", () => {
  assert.deepEqual(taken().marks, [{ text: "one", at: 0 }, { text: "two", at: 3 }]);
});

test("the WAV file holds the samples and says their form", async () => {
  const bytes = await new Blob(taken().wav()).arrayBuffer();
  const view = new DataView(bytes);
  const text = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
  assert.deepEqual([0, 8, 12, 36].map(text), ["RIFF", "WAVE", "fmt ", "data"]);
  assert.equal(view.getUint32(4, true), bytes.byteLength - 8);
  assert.deepEqual([20, 22, 32, 34].map((at) => view.getUint16(at, true)), [1, 1, 2, 16]);
  assert.deepEqual([24, 28, 40].map((at) => view.getUint32(at, true)), [8000, 16_000, 10]);
  assert.deepEqual([...new Int16Array(bytes, 44)], [0, 16_384, -32_768, 8192, -8192]);
});
