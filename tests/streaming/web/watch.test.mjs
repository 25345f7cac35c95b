import assert from "node:assert/strict";
import { test } from "node:test";
import { Watch } from "../../../streaming/web/watch.js";

function watched(t) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const told = [];
  const watch = new Watch({ ping: () => told.push("ping"), onDead: () => told.push("dead"), everyMs: 1000 });
  watch.start();
  return { watch, told, pass: (s) => t.mock.timers.tick(1000 * s) };
}

test("a server that is silent is asked, then given up once", (t) => {
  const { told, pass } = watched(t);
  pass(1);
  assert.deepEqual(told, []);
  pass(1);
  assert.deepEqual(told, ["ping"]);
  pass(20);
  assert.deepEqual(told, ["ping", "dead"]);
});

test("any word of it starts the wait anew", (t) => {
  const { watch, told, pass } = watched(t);
  pass(3);
  watch.heard();
  pass(3);
  watch.heard();
  pass(1);
  assert.deepEqual(told, ["ping", "ping"]);
});

test("a watch that was stopped says nothing", (t) => {
  const { watch, told, pass } = watched(t);
  watch.stop();
  pass(20);
  assert.deepEqual(told, []);
});
