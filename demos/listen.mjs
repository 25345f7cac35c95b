// Print what is said on standard input: 16-bit samples, 16 kHz, mono. Node 22 or newer, no packages.
//
//   audiomamba serve &
//   ffmpeg -v error -i talk.mp3 -f s16le -ar 16000 -ac 1 - | node demos/listen.mjs

const RATE = 16_000;
const AHEAD_S = 20; // sent before it is decoded; the server holds 30 s

const url = new URL("/v1/stream", process.argv[2] ?? "ws://127.0.0.1:8765");
const socket = new WebSocket(url, ["audiomamba.v1"]);
const say = (message) => socket.send(JSON.stringify(message));
let decoded = 0; // seconds
let wake = () => {};

socket.onopen = () => say({ type: "start", audio: { encoding: "linear16", sample_rate: RATE } });
socket.onmessage = ({ data }) => {
  const event = JSON.parse(data);
  switch (event.type) {
    case "ready":
      send().catch(fail);
      break;
    case "metrics":
      decoded = event.decoded_s;
      wake();
      break;
    case "final":
      console.log(`${event.start.toFixed(2).padStart(7)}  ${event.text}`);
      break;
    case "error":
      fail(event);
  }
};
socket.onerror = () => fail({ message: `no server at ${url}` });
socket.onclose = ({ code }) => code === 1000 || fail({ message: `the server closed: ${code}` });

async function send() {
  let seconds = 0;
  for await (const chunk of process.stdin) {
    while (seconds - decoded > AHEAD_S) await new Promise((go) => (wake = go));
    socket.send(chunk); // of any length: a split sample waits for its other half
    seconds += chunk.length / 2 / RATE;
  }
  say({ type: "finish" });
}

function fail({ message }) {
  console.error(message);
  process.exit(1);
}
