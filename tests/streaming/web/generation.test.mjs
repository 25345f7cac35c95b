// Recordings from a server that is played by hand: what is asked for, allowed, heard and told.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { AHEAD_S, Generation } from "../../../streaming/web/generation.js";
import { frame } from "./frames.mjs";

const RATE = 8000;

class Socket {
  static OPEN = 1;

  constructor(url, offer) {
    Object.assign(this, { url, offer, readyState: 0, sent: [] });
    Socket.last = this;
  }

  send(message) {
    this.sent.push(JSON.parse(message));
  }

  close(code) {
    this.closed = code;
  }

  says(event) {
    this.onmessage({ data: JSON.stringify(event) });
  }

  of(type) {
    return this.sent.filter((message) => message.type === type);
  }
}

globalThis.WebSocket = Socket;
let open = [];
afterEach(() => open.splice(0).forEach(({ made }) => made.cancel())); // its timer would keep Node running

/** A generation whose server is `play`: sound comes for what was allowed, a block of 40 ms at a time. */
function started(wishes, given = {}) {
  const all = { states: [], begun: [], samples: 0, clock: 0 };
  all.made = new Generation({
    url: "ws://x/v1/stream", model: "m", rate: RATE, seed: 5, wishes, now: () => all.clock,
    onState: (name, detail) => all.states.push([name, detail]),
    onBegin: ({ label }) => all.begun.push(label),
    onSound: (samples) => (all.samples += samples.length),
    ...given,
  });
  open.push(all);
  all.socket = Socket.last;
  all.socket.readyState = Socket.OPEN;
  all.socket.onopen();
  all.sent = new Map(); // samples by id
  return all;
}

const begins = (id, index) => ({ type: "generation_start", id, index, sample_rate: RATE, seed: 5 });
const ends = (id, reason = "complete") => ({ type: "generation_end", id, samples: 0, reason });

/** Send all that is allowed; a block takes `tookS`. Returns the seconds that are not allowed yet. */
function play(all, tookS = 0) {
  const { socket } = all;
  for (const asked of socket.of("generate")) {
    if (all.sent.get(asked.id)?.over) continue;
    const state = all.sent.get(asked.id) ?? { samples: 0, index: all.sent.size + 1 };
    if (!all.sent.has(asked.id)) socket.says(begins(asked.id, state.index));
    all.sent.set(asked.id, state);
    const credit = socket.of("credit").filter(({ id }) => id === asked.id);
    const allowed = credit.reduce((sum, { seconds }) => sum + seconds, asked.credit_s) * RATE;
    const whole = Math.round(asked.max_s * RATE);
    while (state.samples < whole) {
      const count = Math.min(320, whole - state.samples);
      if (state.samples + count > allowed) return whole - state.samples;
      all.clock += tookS;
      const given = { index: state.index, rate: RATE, first: state.samples };
      socket.onmessage({ data: frame(Array(count).fill(1), given) });
      state.samples += count;
    }
    state.over = true;
    socket.says(ends(asked.id));
  }
  return 0;
}

test("it says what it wants, and asks once the server is ready", () => {
  const { socket } = started([{ label: "seven", seconds: 1 }], { token: "t", how: { voice: "ann", top_p: 0.9 } });
  assert.deepEqual(socket.offer, ["audiomamba.v1", "bearer.t"]);
  assert.deepEqual(socket.sent, [
    { type: "start", protocol: "1.0", task: "generate", model: "m", metrics_ms: 0, client_id: "page" },
  ]);
  socket.says({ type: "ready" });
  const [, asked] = socket.sent;
  assert.deepEqual(asked, {
    type: "generate", id: "1", input: { label: "seven" }, voice: "ann", top_p: 0.9, seed: 5, max_s: 1,
    credit_s: 1.1, audio: { encoding: "linear16", sample_rate: RATE },
  });
});

test("words come one after the other, each with a seed of its own", () => {
  const all = started(["one", "two", "one"].map((label) => ({ label, seconds: 0.5 })));
  all.socket.says({ type: "ready" });
  assert.equal(play(all), 0);
  assert.deepEqual(all.begun, ["one", "two", "one"]);
  assert.deepEqual(all.socket.of("generate").map(({ seed }) => seed), [5, 6, 7]);
  assert.deepEqual(all.states.map(([name]) => name), ["making", "making", "making", "made"]);
  assert.equal(all.samples, 1.5 * RATE);
  assert.deepEqual([all.socket.of("finish").length, all.socket.closed], [1, 1000]);
  assert.equal(all.socket.of("credit").length, 0); // for what is over it would be an error
});

for (const [name, wishes] of [
  ["one long recording", [{ label: null, seconds: 20 }]],
  ["many words", Array.from({ length: 40 }, () => ({ label: "one", seconds: 0.5 }))],
]) {
  test(`of ${name} no more comes than a few seconds ahead of what was heard`, () => {
    const all = started(wishes);
    all.socket.says({ type: "ready" });
    for (let heard = 0; heard <= 20; heard += 0.25) {
      play(all);
      const ahead = all.samples / RATE - heard;
      assert.ok(ahead <= AHEAD_S + 0.1 + 1e-9, `${ahead} s ahead at ${heard}`);
      if (heard < 16) assert.ok(ahead > 1.4, `${ahead} s ahead at ${heard}`);
      for (let again = 0; again < 3; again++) assert.equal(play(all) >= 0, true); // paused: nothing comes
      all.made.listened(heard + 0.25);
    }
    assert.equal(all.states.at(-1)[0], "made");
    assert.equal(all.samples, 20 * RATE);
  });
}

test("no more than eight are asked for at once, whatever may come", () => {
  const all = started(Array.from({ length: 40 }, () => ({ label: "one", seconds: 0.1 })));
  all.socket.says({ type: "ready" });
  assert.equal(all.socket.of("generate").length, 8);
});

test("the real-time factor counts the time in which something could be made", () => {
  const all = started([{ label: null, seconds: 20 }]);
  all.clock = 3;
  all.socket.says({ type: "ready" });
  all.clock = 5; // the model is loaded
  play(all, 0.01); // 40 ms take 10
  assert.ok(Math.abs(all.made.factor - 0.25) < 0.01, all.made.factor);
  assert.equal(all.made.firstAfter, 5.01);
  all.clock += 100; // paused
  all.made.listened(4);
  play(all, 0.01);
  assert.ok(Math.abs(all.made.factor - 0.25) < 0.02, all.made.factor);
});

test("a cancelled one tells the server and nobody else", () => {
  const all = started([{ label: null, seconds: 20 }]);
  all.socket.says({ type: "ready" });
  play(all);
  const [before, told] = [all.samples, all.states.length];
  all.made.cancel();
  assert.deepEqual(all.socket.sent.at(-1), { type: "cancel" });
  assert.equal(all.socket.closed, 1000);
  all.socket.onmessage({ data: frame([1], { index: 1 }) });
  all.socket.onclose({ code: 1000, reason: "" });
  all.made.listened(10);
  assert.deepEqual([all.samples, all.states.length], [before, told]);
});

test("what the server refuses ends it with the server's words", () => {
  const all = started([{ label: "maybe", seconds: 1 }, { label: "one", seconds: 1 }]);
  all.socket.says({ type: "ready" });
  all.socket.says({ type: "error", code: "bad_value", message: "label 'maybe' is not known", fatal: false });
  all.socket.says(ends("1", "error"));
  const [name, detail] = all.states.at(-1);
  assert.equal(name, "failed");
  assert.deepEqual(
    [detail.code, detail.error, detail.message, detail.reached, detail.ready],
    [null, "bad_value", "label 'maybe' is not known", false, true]);
});

test("a connection that ends is told with its code and what the server said last", () => {
  const lost = started([{ label: null, seconds: 20 }]);
  lost.socket.says({ type: "ready" });
  play(lost);
  lost.socket.onclose({ code: 1006, reason: "" });
  assert.deepEqual(lost.states.at(-1), ["failed", { code: 1006, message: "connection closed (1006)", reached: true, ready: true }]);
  const refused = started([{ label: null, seconds: 20 }]);
  refused.socket.says({ type: "error", code: "no_model", message: "no such model", fatal: true });
  refused.socket.onclose({ code: 4404, reason: "no_model" });
  const [, detail] = refused.states.at(-1);
  assert.deepEqual([detail.code, detail.message, detail.reached], [4404, "no such model", false]);
});

test("a frame that was not asked for ends it", () => {
  for (const wrong of [{ index: 9 }, { rate: 16_000 }, { magic: 3 }]) {
    const all = started([{ label: null, seconds: 20 }]);
    all.socket.says({ type: "ready" });
    all.socket.says(begins("1", 1));
    all.socket.onmessage({ data: frame([1], wrong) });
    assert.deepEqual([all.states.at(-1)[0], all.states.at(-1)[1].code], ["failed", 4400]);
  }
});

test("a token that no protocol name can hold is refused, not thrown", async () => {
  const { WebSocket } = globalThis;
  globalThis.WebSocket = class { constructor() { throw new SyntaxError("odd"); } };
  const states = [];
  const made = new Generation({
    url: "ws://x", token: "a b", model: "m", wishes: [{ label: null, seconds: 1 }], seed: 1, rate: RATE,
    onState: (name, detail) => states.push([name, detail.code]), onBegin() {}, onSound() {},
  });
  await null;
  globalThis.WebSocket = WebSocket;
  assert.deepEqual(states, [["failed", 4401]]);
  made.cancel();
});
