// Text to labels.

import assert from "node:assert/strict";
import { test } from "node:test";
import { wanted } from "../../../streaming/web/wanted.js";

const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

test("words become labels in their order, however they are written", () => {
  assert.deepEqual(wanted(" Three,  ONE – four! ", DIGITS), { labels: ["three", "one", "four"], unknown: [] });
  assert.deepEqual(wanted("", DIGITS), { labels: [], unknown: [] });
});

test("figures are read out, unless the model knows the number itself", () => {
  assert.deepEqual(wanted("314 7", DIGITS).labels, ["three", "one", "four", "seven"]);
  assert.deepEqual(wanted("10", [...DIGITS, "10"]).labels, ["10"]);
  assert.deepEqual(wanted("3", ["yes"]), { labels: [], unknown: ["3"] });
});

test("labels of several words are found, the longest first", () => {
  const labels = ["turn", "Turn left", "turn left twice"];
  assert.deepEqual(wanted("turn left twice turn left turn", labels).labels, ["turn left twice", "Turn left", "turn"]);
});

test("what the model does not know is named", () => {
  assert.deepEqual(wanted("one hello two don't", DIGITS), { labels: ["one", "two"], unknown: ["hello", "don't"] });
});
