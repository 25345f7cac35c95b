// What the page remembers: choices in the local storage, the transcript in the session's only.

const CHOICES = "audiomamba.choices";
const TRANSCRIPT = "audiomamba.transcript";
const DEFAULTS = {
  source: "", // a microphone's id, "" for the default one, or "tab"
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  silenceMs: 0, // a pause that ends a line; 0: when the model takes it to be finished
  paced: true,
  size: 0, // steps from the normal size
  wish: {}, // model, say and speaker of what was made last
};

export function loadChoices() {
  return { ...DEFAULTS, ...read(localStorage, CHOICES) };
}

export function saveChoices(choices) {
  write(localStorage, CHOICES, choices);
}

export function loadTranscript() {
  return read(sessionStorage, TRANSCRIPT);
}

export function saveTranscript(saved) {
  write(sessionStorage, TRANSCRIPT, saved);
}

function read(storage, key) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch {
    return null; // written by another version, or storage is not allowed
  }
}

function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // Full or not allowed: the page works without a memory.
  }
}
