// The page: joins what is heard (capture, recording), sent (stream) and shown (captions, strip).

import { Captions } from "./captions.js";
import { Capture, explain, microphones, obstacle } from "./capture.js";
import * as exports from "./exports.js";
import { bindKeys } from "./keys.js";
import { meterPosition } from "./pcm.js";
import { Recording } from "./recording.js";
import { loadChoices, loadTranscript, saveChoices, saveTranscript } from "./settings.js";
import { Stream } from "./stream.js";
import { ROWS, Strip } from "./strip.js";
import { clock, Transcript } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const LABELS = {
  idle: "Ready",
  connecting: "Connecting",
  live: "Live",
  muted: "Muted",
  reconnecting: "Reconnecting",
  draining: "Finishing",
  drained: "Done",
};
const LATE_S = 2;
const SIZES = [-3, 6];

let session = null; // {stream, source, muted, mutedSamples, samples, peak}, or {opening}
let recording = null; // the one that was dropped last; it can be played again
let model = "";
const marks = new Map();
const choices = loadChoices();
const transcript = new Transcript();
const worker = new Worker(new URL("sound-worker.js", import.meta.url), { type: "module" });
const strip = new Strip($("strip"));
const captions = new Captions({
  list: $("lines"), scroller: $("page"), jump: $("jump"), announcer: $("announcer"),
  canPlay: (line) => recording !== null && line.session === recording.session,
  onSeek: seek,
});
strip.lines = () => transcript.lines.slice(-12);


// ---- a session ----

async function start() {
  if (session) return;
  const blocked = recording?.fresh ? null : obstacle();
  if (blocked) return notice(blocked);
  notice("");
  state("connecting");
  session = { opening: true };
  try {
    const source = recording?.fresh ? recording : await openCapture();
    begin(source);
  } catch (error) {
    session = null;
    state(transcript.lines.length ? "drained" : "idle");
    notice(explain(error));
  }
}

function openCapture() {
  const { source, echoCancellation, noiseSuppression, autoGainControl } = choices;
  return Capture.open({
    kind: source === "tab" ? "tab" : "microphone",
    deviceId: source === "tab" ? "" : source,
    constraints: { echoCancellation, noiseSuppression, autoGainControl },
    onEnded: () => {
      notice("The sound source went away.");
      stop();
    },
  });
}

function begin(source) {
  document.body.classList.remove("blank");
  document.body.classList.add("running");
  $("start-label").textContent = "Stop";
  transcript.begin();
  if (transcript.lines.length) captions.divide(source.name || "Microphone");
  strip.reset(transcript.base);
  worker.postMessage({ rate: source.sampleRate, rows: ROWS });
  const token = $("settings").querySelector("[name=token]").value;
  const stream = new Stream({
    url: new URL("../v1/stream", location.href).href.replace(/^http/, "ws"),
    sampleRate: source.sampleRate,
    token,
    options: { client_id: "page", endpointing: { mode: "auto", silence_ms: Number(choices.silenceMs) } },
    onEvent: received,
    onState: streamState,
  });
  session = { stream, source, muted: false, mutedSamples: 0, samples: 0, peak: 0 };
  if (source === recording) playRecording(session);
  else {
    source.deliver(worker);
    $("mute").disabled = false;
    listMicrophones(); // names are known once the permission is there
  }
  keepAwake();
}

async function playRecording(mine) {
  Object.assign(recording, { fresh: false, session: transcript.session });
  captions.refreshPlayable();
  $("player").hidden = false;
  const feed = (samples) => {
    worker.postMessage({ samples }, [samples.buffer]);
    return reached();
  };
  await recording.play(choices.paced, feed, () => mine.stream.room());
  if (session === mine) stop();
}

async function stop() {
  if (!session || session.opening) return;
  if (session.stopping) return session.stream.close(); // the second time: do not wait either
  const mine = session;
  mine.stopping = true;
  $("mute").disabled = true;
  setMuted(false);
  if (mine.source === recording) recording.stop();
  else await mine.source.close();
  await reached(); // the worker's last blocks
  if (document.body.dataset.state !== "reconnecting") state("draining");
  mine.stream.finish();
}

/** Resolves when everything given to the worker so far has come back. */
function reached() {
  const mark = marks.size ? Math.max(...marks.keys()) + 1 : 0;
  worker.postMessage({ mark });
  return new Promise((resolve) => marks.set(mark, resolve));
}

worker.onmessage = ({ data }) => {
  if (data.mark !== undefined) {
    marks.get(data.mark)?.();
    marks.delete(data.mark);
    return;
  }
  if (!session?.stream) return;
  session.samples += data.pcm.length;
  transcript.reached(session.samples / session.source.sampleRate);
  if (session.muted) {
    session.mutedSamples += data.pcm.length;
    if (session.mutedSamples >= session.source.sampleRate) sendMuted();
  } else {
    session.stream.feed(data.pcm);
  }
  strip.add(data.columns);
  level(data);
};

function sendMuted() {
  session.stream.gap(session.mutedSamples);
  session.mutedSamples = 0;
}

function setMuted(muted) {
  if (!session?.stream || session.muted === muted || session.source === recording) return;
  if (session.muted) sendMuted();
  session.muted = muted;
  session.source.muted = muted;
  $("mute").setAttribute("aria-pressed", muted);
  $("mute").setAttribute("aria-label", muted ? "Unmute" : "Mute");
  $("mute").querySelector("use").setAttribute("href", muted ? "#i-mic-off" : "#i-mic");
  if (["live", "muted"].includes(document.body.dataset.state)) state(muted ? "muted" : "live");
}

// ---- what the server says ----

function received(event) {
  switch (event.type) {
    case "partial":
      captions.show(transcript.apply(event));
      strip.invalidate();
      break;
    case "final":
      captions.show(transcript.apply(event), { announce: true });
      strip.invalidate();
      saveTranscript(transcript.save());
      break;
    case "metrics":
      metrics(event);
      break;
    case "warning":
    case "error":
      if (event.code !== "no_speech") notice(event.message || event.code);
      break;
  }
}

function metrics({ lag_s: lag = 0, state_bytes: bytes, step_ms_p50: step, rtf }) {
  $("lag").hidden = session?.source === recording && !choices.paced; // there is no now to be behind of
  $("lag").textContent = `${lag.toFixed(1)} s behind`;
  $("lag").classList.toggle("late", lag > LATE_S);
  const facts = [model];
  if (bytes) facts.push(`${Math.round(bytes / 1024)} KB of state`);
  if (step) facts.push(`${step.toFixed(1)} ms a step`);
  if (rtf) facts.push(`${rtf.toFixed(2)} × real time`);
  $("facts").textContent = facts.filter(Boolean).join("  ·  ");
}

function streamState(name, detail) {
  switch (name) {
    case "live":
      model = detail.model?.name ?? model;
      if (session?.stopping) state("draining");
      else state(session?.muted ? "muted" : "live");
      if (detail.lostS > 0.05) notice(`${detail.lostS.toFixed(1)} s of sound were lost while reconnecting.`);
      else notice("");
      break;
    case "full":
      notice("The network is slow: sound waits here and is sent as it clears.");
      break;
    case "drained":
      ended();
      break;
    case "failed":
      ended();
      notice(failure(detail));
      if (detail.code === 4401) $("settings").showModal();
      break;
    default:
      state(name);
  }
}

function failure({ code, message, reached: wasLive }) {
  if (code === 4401) return "The server wants a token: Settings, Access.";
  if (code === 1006 && !wasLive) return "The server cannot be reached; it may be full or not running.";
  return wasLive ? `The connection was lost: ${message}. All text is kept.` : `The server refused: ${message}.`;
}

function ended() {
  const mine = session;
  session = null;
  if (mine && !mine.stopping) {
    if (mine.source === recording) recording.stop();
    else mine.source.close();
  }
  transcript.settle().forEach((line) => captions.show(line));
  saveTranscript(transcript.save());
  document.body.classList.remove("running");
  $("start-label").textContent = "Start";
  $("mute").disabled = true;
  $("lag").hidden = true;
  level({ peak: 0, rms: 0 });
  releaseAwake();
  state("drained");
}

// ---- what is shown ----

function state(name) {
  document.body.dataset.state = name;
  $("state").textContent = LABELS[name];
  document.title = session ? `● ${LABELS[name]} · audiomamba` : "audiomamba";
}

function notice(words) {
  $("notice").hidden = !words;
  $("notice-text").textContent = words;
}

function level({ peak, rms }) {
  const now = performance.now();
  const held = Math.max(peak, (session?.peak ?? 0) * 0.97); // falls by 13 dB a second
  if (session) session.peak = held;
  $("rms").style.transform = `scaleX(${meterPosition(rms)})`;
  $("peak").style.left = `calc(${100 * meterPosition(held)}% - 3px)`;
  $("peak").style.opacity = held > 0.001 ? 1 : 0;
  $("meter").classList.toggle("clipped", peak >= 0.999);
  $("elapsed").textContent = clock(session?.stream ? session.samples / session.source.sampleRate : transcript.end - transcript.base);
  if (now - (level.told ?? 0) > 1000) {
    level.told = now;
    const db = Math.max(-60, Math.round(20 * Math.log10(rms + 1e-6)));
    $("meter").setAttribute("aria-valuenow", db);
    $("meter").setAttribute("aria-valuetext", db <= -60 ? "silent" : `${db} decibels`);
  }
}

function resize(step) {
  choices.size = Math.min(SIZES[1], Math.max(SIZES[0], choices.size + step));
  document.documentElement.style.setProperty("--scale", 1.12 ** choices.size);
  saveChoices(choices);
}

function toggleFull() {
  const on = !document.body.classList.contains("full");
  if (on) document.documentElement.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) document.exitFullscreen();
  full(on);
}

function full(on) {
  document.body.classList.toggle("full", on);
  captions.toEnd();
}

function seek(seconds) {
  const player = $("player");
  player.currentTime = seconds;
  player.play();
}

async function exportAs(format) {
  const { lines } = transcript;
  if (format === "clear") return clearPage();
  if (format === "copy") return navigator.clipboard.writeText(exports.txt(lines));
  const body = format === "json" ? exports.json(lines, { model }) : exports[format](lines);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([body], { type: "text/plain;charset=utf-8" }));
  link.download = `captions-${new Date().toISOString().slice(0, 16).replace(/[:T]/g, "-")}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function clearPage() {
  if (session) return notice("Stop first; the page that is being written cannot be cleared.");
  transcript.clear();
  captions.clear();
  saveTranscript(transcript.save());
  strip.reset(0);
  document.body.classList.add("blank");
  $("welcome").hidden = false;
  state("idle");
}

// ---- sources ----

async function listMicrophones() {
  const select = $("source");
  const named = (await microphones()).filter((d) => d.label);
  const options = [["", "Default microphone"], ...named.map((d) => [d.deviceId, d.label])];
  if (navigator.mediaDevices?.getDisplayMedia) options.push(["tab", "Sound of a tab or the computer"]);
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  // A device that is away keeps its place in the choices, for when it comes back.
  select.value = options.some(([value]) => value === choices.source) ? choices.source : "";
}

async function openRecording(file) {
  if (!file) return;
  if (session) return notice("Stop first, then drop the recording.");
  try {
    recording = await Recording.open(file, $("player"));
  } catch (error) {
    return notice(error.message);
  }
  recording.fresh = true;
  await start();
}

let wakeLock = null;

async function keepAwake() {
  wakeLock = await navigator.wakeLock?.request("screen").catch(() => null);
}

function releaseAwake() {
  wakeLock?.release();
  wakeLock = null;
}

// ---- wiring ----

function bind() {
  $("start").addEventListener("click", () => (session ? stop() : start()));
  $("mute").addEventListener("click", () => setMuted(!session?.muted));
  $("full").addEventListener("click", toggleFull);
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", ({ target }) => {
    openRecording(target.files[0]);
    target.value = "";
  });
  $("notice-close").addEventListener("click", () => notice(""));
  $("source").addEventListener("change", ({ target }) => {
    choices.source = target.value;
    saveChoices(choices);
    if (session && session.source !== recording) notice("The other source is used from the next start.");
  });
  $("export-menu").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    exportAs(button.dataset.format);
    $("export-menu").hidePopover();
  });
  $("export-menu").addEventListener("beforetoggle", () => {
    for (const button of $("export-menu").querySelectorAll("button")) button.disabled = !transcript.lines.length;
  });
  document.addEventListener("fullscreenchange", () => document.fullscreenElement || full(false));
  document.addEventListener("visibilitychange", visibility);
  navigator.mediaDevices?.addEventListener("devicechange", listMicrophones);
  bindKeys({
    start: () => $("start").click(),
    mute: () => setMuted(!session?.muted),
    export: () => $("export-menu").togglePopover(),
    full: toggleFull,
    leave: () => full(false),
    larger: () => resize(1),
    smaller: () => resize(-1),
  });
  bindSettings();
  bindDrop();
}

function bindSettings() {
  const form = $("settings").querySelector("form");
  $("settings-open").addEventListener("click", () => $("settings").showModal());
  $("settings").addEventListener("click", ({ target }) => target === $("settings") && $("settings").close());
  for (const name of ["noiseSuppression", "echoCancellation", "autoGainControl"]) form[name].checked = choices[name];
  form.silenceMs.value = choices.silenceMs;
  form.paced.value = choices.paced ? "yes" : "";
  const silence = () => ($("silence-value").textContent = `${(form.silenceMs.value / 1000).toFixed(1)} s`);
  silence();
  form.addEventListener("input", ({ target }) => {
    if (target.name === "token") return; // not remembered
    if (target.type === "checkbox") choices[target.name] = target.checked;
    else if (target.name === "paced") choices.paced = Boolean(form.paced.value);
    else choices[target.name] = target.value;
    silence();
    saveChoices(choices);
  });
  $("smaller").addEventListener("click", () => resize(-1));
  $("larger").addEventListener("click", () => resize(1));
}

function bindDrop() {
  const files = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    $("drop").hidden = true;
    openRecording(event.dataTransfer.files[0]);
  });
}

function visibility() {
  if (!session?.source?.context || document.hidden) return;
  keepAwake(); // the lock ends when the page is hidden
  if (session.source.context.state !== "running") {
    session.source.context.resume();
    notice("The browser paused the microphone while this page was hidden.");
  }
}

function restore() {
  const saved = loadTranscript();
  if (!saved?.lines?.length) return;
  transcript.restore(saved);
  transcript.lines.forEach((line) => captions.show(line));
  $("welcome").hidden = true;
  state("drained");
}

new MutationObserver(() => ($("welcome").hidden ||= document.body.classList.contains("running"))).observe(
  document.body, { attributeFilter: ["class"] });
document.body.classList.add("blank");
bind();
resize(0);
restore();
listMicrophones();
if (!window.isSecureContext) notice(obstacle());
