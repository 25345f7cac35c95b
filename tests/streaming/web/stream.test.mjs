// The stream against a socket that is moved by hand.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Stream } from "../../../streaming/web/stream.js";

const RATE = 16_000;
const sockets = [];

class Socket {
  static OPEN = 1;

  constructor(url, offer) {
    Object.assign(this, { url, offer, readyState: 0, bufferedAmount: 0, sent: [] });
    sockets.push(this);
  }

  send(message) {
    this.sent.push(typeof message === "string" ? JSON.parse(message) : message);
  }

  close() {
    this.readyState = 3;
  }

  opened(ready = {}) {
    this.readyState = Socket.OPEN;
    this.onopen();
    this.says({ type: "ready", seq: 1, resumed: false, resume_at_sample: 0, resume: { token: "t1" }, ...ready });
  }

  says(event) {
    this.onmessage({ data: JSON.stringify(event) });
  }

  breaks(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }

  get samples() {
    return this.sent.filter((m) => m instanceof Int16Array).reduce((sum, m) => sum + m.length, 0);
  }

  get types() {
    return this.sent.filter((m) => !(m instanceof Int16Array)).map((m) => m.type);
  }
}

globalThis.WebSocket = Socket;
let open = [];

function stream(given = {}) {
  const states = [];
  const events = [];
  const made = new Stream({
    url: "ws://x/v1/stream", sampleRate: RATE,
    onState: (name, detail) => states.push([name, detail]), onEvent: (event) => events.push(event), ...given,
  });
  open.push(made);
  return { made, states, events, names: () => states.map(([name]) => name), socket: sockets.at(-1) };
}

afterEach(() => {
  open.splice(0).forEach((s) => s.close());
  sockets.length = 0;
});

const sound = (seconds) => new Int16Array(seconds * RATE);
const said = (utterance, start, end) => ({ type: "final", utterance, start, end, text: "x", words: [{ word: "x", start, end }] });

/** Break the connection and wait for the next socket. */
async function reconnect(socket, code) {
  socket.breaks(code);
  while (sockets.at(-1) === socket) await new Promise((go) => setTimeout(go, 5));
  return sockets.at(-1);
}

test("a token is offered as a subprotocol, and never in the address", () => {
  const { socket } = stream({ token: "s3cret" });
  assert.deepEqual([socket.url, socket.offer], ["ws://x/v1/stream", ["audiomamba.v1", "bearer.s3cret"]]);
});

test("sound waits for the server's greeting", () => {
  const { made, socket } = stream();
  made.feed(sound(1));
  assert.equal(socket.samples, 0);
  socket.opened();
  assert.equal(socket.samples, RATE);
});

test("a resumed stream sends again exactly what the server has not", async () => {
  const { made, socket, names } = stream();
  socket.opened();
  made.feed(sound(3));
  socket.says({ type: "snapshot", seq: 7, token: "t2", at_sample: RATE });
  const next = await reconnect(socket);
  next.opened({ seq: 8, resumed: true, resume_at_sample: 2 * RATE, resume: { token: "t3" } });
  assert.deepEqual(next.sent[0].resume, { token: "t2", last_seq: 7 });
  assert.equal(next.samples, RATE);
  assert.deepEqual(names(), ["connecting", "live", "reconnecting", "reconnecting", "live"]);
});

test("a token of go_away is the one that is shown", async () => {
  const { socket } = stream();
  socket.opened();
  socket.says({ type: "go_away", seq: 2, reason: "drain", in_s: 5, token: "moved" });
  const next = await reconnect(socket, 1012);
  next.opened();
  assert.equal(next.sent[0].resume.token, "moved");
});

test("a server that forgot gets the sound since the last final, and times go on", async () => {
  const { made, socket, events, states } = stream();
  socket.opened();
  made.feed(sound(4));
  socket.says({ ...said(0, 0.5, 2), seq: 2 });
  socket.says({ type: "partial", seq: 3, utterance: 1, start: 2.5, end: 4, stable: "", unstable: "half" });
  const next = await reconnect(socket);
  next.opened({ resumed: false });
  assert.equal(next.samples, 2 * RATE);
  assert.equal(states.at(-1)[1].lostS, 0);
  next.says({ ...said(0, 0.5, 1.5), seq: 2 });
  const last = events.at(-1);
  // The number of the line that was open: said again, it replaces what was half said.
  assert.deepEqual([last.utterance, last.start, last.words[0].end], [1, 2.5, 3.5]);
});

test("a token that the server knows no more is not shown again", async () => {
  const { socket } = stream();
  socket.opened();
  const next = await reconnect(socket, 4410);
  next.opened();
  assert.equal(next.sent[0].resume, undefined);
});

test("a slow reader and an idle one may come back, a superseded one may not", async () => {
  for (const code of [4408, 4413]) await reconnect(stream().socket.opened() ?? sockets.at(-1), code);
  const { socket, names } = stream();
  socket.opened();
  socket.breaks(4409);
  assert.equal(names().at(-1), "failed");
});

test("a server that asks to wait is waited for", async () => {
  const { socket } = stream();
  socket.opened();
  socket.says({ type: "error", fatal: true, code: "overloaded", message: "full", retry_after_s: 0.3 });
  const began = performance.now();
  await reconnect(socket, 1013);
  assert.ok(performance.now() - began > 280);
});

test("more than a mebibyte in the socket stops the sending, and is told in seconds", async () => {
  const { made, socket, states, names } = stream();
  socket.opened();
  socket.bufferedAmount = 2 << 20;
  made.feed(sound(1));
  assert.equal(socket.samples, 0);
  const [name, { seconds }] = states.at(-1);
  assert.deepEqual([name, Math.round(seconds)], ["full", Math.round((2 << 20) / 2 / RATE + 1)]);
  socket.bufferedAmount = 0;
  while (names().at(-1) !== "clear") await new Promise((go) => setTimeout(go, 10));
  assert.equal(socket.samples, RATE);
});

test("giving up tells the server to forget", () => {
  const { made, socket } = stream();
  socket.opened();
  made.close();
  assert.deepEqual(socket.types, ["start", "cancel"]);
});

test("a connection that never opened is not tried for ever", () => {
  const { socket, states } = stream();
  socket.breaks(1006);
  assert.deepEqual([states.at(-1)[0], states.at(-1)[1].reached], ["failed", false]);
});
