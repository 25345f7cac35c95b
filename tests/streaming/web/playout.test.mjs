// Whatever the sizes of what comes and of what is asked for, the samples come out in order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Playout } from "../../../streaming/web/playout.js";

const RATE = 1000; // so that it begins with 150 samples
const ramp = (from, to) => Float32Array.from({ length: to - from }, (_, i) => (from + i) / 10_000);

function pulled(playout, count) {
  const out = new Float32Array(count);
  playout.pull(out);
  return out;
}

for (const piece of [1, 64, 128, 300]) {
  test(`blocks of any size come out whole in pieces of ${piece}`, () => {
    const playout = new Playout(RATE);
    playout.begin(0);
    const cuts = [0, 1, 100, 163, 400, 400, 777];
    for (let i = 1; i < cuts.length; i++) playout.feed(ramp(cuts[i - 1], cuts[i]));
    playout.end();
    const heard = [];
    while (playout.state !== "ended") heard.push(...pulled(playout, piece));
    assert.deepEqual(heard.slice(0, 777), [...ramp(0, 777)]);
    assert.equal(playout.position, 777);
  });
}

test("it begins when a little waits, and at once when no more comes", () => {
  const playout = new Playout(RATE);
  playout.begin(0);
  playout.feed(ramp(1, 101));
  assert.deepEqual([...pulled(playout, 10)], Array(10).fill(0));
  assert.equal(playout.state, "waiting");
  playout.feed(ramp(101, 151));
  assert.equal(pulled(playout, 10)[0], ramp(1, 2)[0]);
  const short = new Playout(RATE);
  short.begin(0);
  short.feed(ramp(1, 3));
  short.end();
  pulled(short, 10);
  assert.deepEqual([short.state, short.position], ["ended", 2]);
});

test("after it ran dry it waits for twice as much, never for more than may be sent ahead", () => {
  const playout = new Playout(RATE);
  playout.begin(0);
  let needed = [];
  for (let dry = 0; dry < 7; dry++) {
    let fed = 0;
    do {
      playout.feed(ramp(0, 10));
      fed += 10;
      pulled(playout, 1);
    } while (playout.state === "waiting");
    needed.push(fed);
    pulled(playout, 5000);
    assert.equal(playout.state, "waiting");
  }
  assert.deepEqual(needed, [150, 300, 600, 1200, 2400, 3000, 3000]);
});

test("where sound stops it dies away: no step is louder than a hundredth of full scale would be", () => {
  const playout = new Playout(RATE);
  playout.begin(0);
  playout.feed(new Float32Array(150).fill(0.2));
  const out = pulled(playout, 600);
  const steps = out.slice(150).map((x, i) => Math.abs(x - out[149 + i]));
  assert.ok(Math.max(...steps) < 0.01);
  assert.ok(Math.abs(out.at(-1)) < 1e-6);
});

test("another beginning forgets what waits", () => {
  const playout = new Playout(RATE);
  playout.begin(0);
  playout.feed(ramp(0, 500));
  pulled(playout, 100);
  playout.begin(4000);
  assert.deepEqual([playout.position, playout.held, playout.state], [4000, 0, "waiting"]);
  playout.feed(ramp(7, 200));
  assert.equal(pulled(playout, 1)[0], ramp(7, 8)[0]);
  assert.equal(playout.position, 4001);
});
