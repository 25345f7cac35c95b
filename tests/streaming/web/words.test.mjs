import assert from "node:assert/strict";
import { test } from "node:test";
import { failure, unmade, unready, warning } from "../../../streaming/web/words.js";

// The close codes of the protocol, and those that every WebSocket has.
const CODES = [1003, 1006, 1008, 1009, 1011, 1012, 1013, 4400, 4401, 4403, 4404, 4406, 4408, 4409, 4410, 4413, 4429];

test("every close is a sentence without its number", () => {
  for (const code of CODES) {
    for (const reached of [true, false]) {
      const words = failure({ code, message: "start.model: no such", reached });
      assert.match(words, /^[A-Z].*\.$/);
      assert.doesNotMatch(words, /\d{4}|undefined/);
    }
  }
});

test("whoever has read something is told that it stays", () => {
  for (const code of CODES) {
    assert.match(failure({ code, message: "m", reached: true }), /All text is kept\.$/);
    assert.doesNotMatch(failure({ code, message: "m", reached: false }), /kept/);
  }
});

test("what the server said is passed on, with one full stop", () => {
  assert.equal(failure({ code: 4404, message: "wanted listen-en." }), "The server has no such model: wanted listen-en.");
  assert.equal(failure({ code: 4999, message: "odd" }), "The server refused: odd.");
});

test("a warning of no use to the reader is not shown", () => {
  for (const code of ["no_speech", "unknown_field", "resume_unavailable"]) assert.equal(warning({ code, message: "m" }), "");
});

test("dropped sound is told by its time", () => {
  assert.match(warning({ code: "audio_dropped", from: 61, to: 65.5 }), /from 1:01 to 1:05/);
});

test("a warning that is not known is shown as it came", () => {
  assert.equal(warning({ code: "new_thing", message: "mind the gap" }), "mind the gap");
});

test("a server that is not ready says why", () => {
  assert.match(unready(["full"]), /places/);
  assert.match(unready(["warming up"]), /getting ready/);
  assert.match(unready(["on fire"]), /on fire/);
  assert.match(unready([]), /does not say/);
});

test("sound that did not come is explained, and what came is said to be kept", () => {
  for (const code of [...CODES, null]) {
    for (const reached of [true, false]) {
      const words = unmade({ code, message: "label 'maybe' is not known.", error: "bad_value", reached });
      assert.match(words, /^[A-Z].*\.$/);
      assert.doesNotMatch(words, /\d{4}|undefined|null|listening|\.\./);
      if (code !== 4403) assert.equal(/came so far is kept/.test(words), reached);
    }
  }
  assert.match(unmade({ code: null, message: "label 'maybe' is not known", error: "bad_value" }), /label 'maybe'/);
  assert.match(unmade({ code: null, message: "all 16 are taken", error: "overloaded" }), /busy: all 16 are taken\. Try/);
  assert.match(unmade({ code: null, message: "quote ab", error: "internal" }), /fault of its own: quote ab\./);
});
