// The page: its parts, and what happens between them.

import { obstacle } from "./capture.js";
import { Captions } from "./captions.js";
import { bindDrop } from "./drop.js";
import { Generate } from "./generate.js";
import { bindKeys } from "./keys.js";
import { Listening } from "./listening.js";
import { Meter } from "./meter.js";
import { Preferences } from "./preferences.js";
import { Presence } from "./presence.js";
import { modelName } from "./probe.js";
import { Recording } from "./recording.js";
import { loadChoices, loadTranscript, saveTranscript } from "./settings.js";
import { Sources } from "./sources.js";
import { Status } from "./status.js";
import { Strip } from "./strip.js";
import { Tabs } from "./tabs.js";
import { copy, download } from "./takeaway.js";
import { clock, Transcript } from "./transcript.js";
import { warning } from "./words.js";

const $ = (id) => document.getElementById(id);
const SHOWN_LINES = 12; // that the strip may still show words of
const SAVE_MS = 2000;

const choices = loadChoices();
const transcript = new Transcript();
const status = new Status($);
const meter = new Meter({ meter: $("meter"), rms: $("rms"), peak: $("peak") });
const strip = new Strip($("strip"));
const preferences = new Preferences($, choices, () => listening.changeSource());
const sources = new Sources($("source"), choices, () => listening.changeSource());
const listening = new Listening({ status, sources, preferences, choices, onBegin, onEvent, onSound, onMuted, onEnd });
const captions = new Captions({
  list: $("lines"), scroller: $("page"), jump: $("jump"), announcer: $("announcer"),
  canPlay: (line) => recording !== null && line.session === recording.session,
  onSeek: seek,
});
const presence = new Presence({
  heard: () => listening.heardLive,
  onHidden: (hidden) => status.hidden(hidden),
  onLost: (seconds) => listening.lost(seconds),
  onLeave: saveNow,
});
let recording = null; // the one that was dropped last; it can be played again
let saving = null;

// ---- what happens while listening ----

function onBegin(source) {
  document.body.classList.remove("blank");
  document.body.classList.add("running");
  $("start-label").textContent = "Stop";
  $("mute").disabled = !source.live;
  transcript.begin();
  if (transcript.lines.length) captions.divide(source.name || "Microphone");
  strip.reset(transcript.base);
  if (source.live) {
    sources.list();
    presence.keepAwake();
  } else {
    source.session = transcript.session;
    captions.refreshPlayable();
    $("player").hidden = false;
  }
}

function onSound(sound) {
  const { seconds } = listening.session;
  transcript.reached(seconds);
  strip.add(sound.columns);
  meter.show(sound);
  $("elapsed").textContent = clock(seconds);
}

function onEvent(event) {
  switch (event.type) {
    case "partial":
    case "final":
      captions.show(transcript.apply(event), { announce: event.type === "final" });
      strip.invalidate();
      if (event.type === "final") saveSoon();
      break;
    case "metrics":
      status.metrics(event, listening.paced);
      break;
    case "warning":
      if (warning(event)) status.say(warning(event));
      break;
    case "error":
      if (!event.fatal) status.say(event.message || event.code); // the close tells of the others
      break;
  }
}

function onMuted(muted) {
  $("mute").setAttribute("aria-pressed", muted);
  $("mute").querySelector("use").setAttribute("href", muted ? "#i-mic-off" : "#i-mic");
}

function onEnd() {
  transcript.settle().forEach((line) => captions.show(line));
  saveNow();
  document.body.classList.remove("running");
  $("start-label").textContent = "Start";
  $("mute").disabled = true;
  meter.silent();
  presence.release();
  status.quiet();
  status.show(transcript.lines.length ? "drained" : "idle");
}

// ---- the transcript ----

function saveSoon() {
  saving ??= setTimeout(saveNow, SAVE_MS);
}

function saveNow() {
  clearTimeout(saving);
  saving = null;
  saveTranscript(transcript.save());
}

function restore() {
  const saved = loadTranscript();
  if (!saved?.lines?.length) return;
  transcript.restore(saved);
  transcript.lines.forEach((line) => captions.show(line));
  $("elapsed").textContent = clock(transcript.end);
  document.body.classList.remove("blank");
  status.show("drained");
}

async function exportAs(format) {
  if (format === "clear") return clearPage();
  if (format !== "copy") return download(transcript.lines, format, { model: status.model });
  if (await copy(transcript.lines)) status.say("Copied.", "info");
  else status.say("The browser does not let this page copy; save the text instead.");
}

function clearPage() {
  if (listening.busy) return status.say("Stop first; the page that is being written cannot be cleared.");
  transcript.clear();
  captions.clear();
  saveNow();
  strip.reset(0);
  $("elapsed").textContent = clock(0);
  $("player").hidden = true;
  document.body.classList.add("blank");
  status.show("idle");
}

// ---- recordings ----

async function openRecording(file) {
  if (!file) return;
  tabs.show("captions");
  if (listening.busy) return status.say("Stop first, then drop the recording.");
  try {
    recording = await Recording.open(file, $("player"));
  } catch (error) {
    return status.say(error.message);
  }
  await listening.start(recording);
}

function seek(seconds) {
  $("player").currentTime = seconds;
  $("player").play().catch(() => {}); // paused again before it began
}

function followPlayer() {
  captions.playing(recording?.session, $("player").paused ? null : $("player").currentTime);
}

// ---- wiring ----

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

const toggleMute = () => listening.mute(!listening.session?.muted);

function bindControls() {
  $("start").addEventListener("click", () => (listening.session ? listening.stop() : listening.start()));
  $("mute").addEventListener("click", toggleMute);
  for (const id of ["full", "leave"]) $(id).addEventListener("click", toggleFull);
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", ({ target }) => {
    openRecording(target.files[0]);
    target.value = "";
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
  for (const kind of ["timeupdate", "play", "pause", "ended"]) $("player").addEventListener(kind, followPlayer);
  document.addEventListener("fullscreenchange", () => document.fullscreenElement || full(false));
  bindDrop($("drop"), openRecording);
}

bindControls();
const generate = new Generate($, { say: (words) => status.say(words), preferences, choices });
const tabs = new Tabs($("tabs"), (name) => name === "generate" && generate.shown());
const KEYS = {
  captions: {
    start: () => $("start").click(),
    mute: toggleMute,
    export: () => $("export-menu").togglePopover(),
    full: toggleFull,
    leave: () => full(false),
    larger: () => preferences.resize(1),
    smaller: () => preferences.resize(-1),
  },
  generate: {
    start: () => generate.play(),
    generate: () => generate.toggle(),
    leave: () => generate.cancel(),
    export: () => generate.save(),
  },
};
bindKeys(() => KEYS[tabs.shown]);
strip.lines = () => transcript.lines.slice(-SHOWN_LINES);
restore();
if (!window.isSecureContext) status.say(obstacle());
modelName(location.href).then((name) => status.answering(name));
