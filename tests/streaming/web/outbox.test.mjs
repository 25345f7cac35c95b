import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox } from "../../../streaming/web/outbox.js";

const drain = (outbox) => {
  const all = [];
  for (let m = outbox.next(); m !== null; m = outbox.next()) all.push(m instanceof Int16Array ? [...m] : m);
  return all;
};

test("marks keep their place between samples", () => {
  const outbox = new Outbox(1000);
  outbox.feed(Int16Array.of(1, 2));
  outbox.flush("one");
  outbox.feed(Int16Array.of(3));
  outbox.gap(7);
  outbox.finish();
  assert.deepEqual(drain(outbox), [
    [1, 2], { type: "flush", id: "one" }, [3], { type: "gap", samples: 7 }, { type: "finish" },
  ]);
});

test("a rewind sends again from that sample, and marks that were not answered", () => {
  const outbox = new Outbox(1000);
  outbox.feed(Int16Array.of(1, 2, 3, 4));
  outbox.flush("open");
  outbox.flush("answered");
  outbox.finish();
  drain(outbox);
  outbox.flushed("answered");
  assert.equal(outbox.rewind(1), 0);
  assert.deepEqual(drain(outbox), [[2, 3, 4], { type: "flush", id: "open" }, { type: "finish" }]);
});

test("samples that are gone become silence of the same length", () => {
  const outbox = new Outbox(4);
  for (let i = 0; i < 10; i++) {
    outbox.feed(Int16Array.of(i, i));
    drain(outbox);
  }
  assert.equal(outbox.rewind(10), 6);
  assert.deepEqual(drain(outbox), [{ type: "gap", samples: 6 }, [8, 8], [9, 9]]);
  assert.equal(outbox.sent, 20);
});

test("memory is bounded once audio is sent, and nothing unsent is dropped", () => {
  const outbox = new Outbox(100);
  for (let i = 0; i < 500; i++) outbox.feed(new Int16Array(10));
  assert.equal(outbox.unsent, 5000);
  for (let i = 0; i < 500; i++) {
    drain(outbox);
    outbox.feed(new Int16Array(10));
  }
  assert.ok(outbox.keptBytes <= 2 * 110);
});

test("what is acknowledged is forgotten, what was not sent is not", () => {
  const outbox = new Outbox(1000);
  outbox.feed(Int16Array.of(1, 2));
  outbox.feed(Int16Array.of(3, 4));
  outbox.next();
  outbox.forget(4);
  assert.equal(outbox.keptFrom, 2);
  assert.deepEqual(drain(outbox), [[3, 4]]);
});
