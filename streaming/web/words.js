// What went wrong, in words for the person in front of the page. Pure: codes in, sentences out.

import { clock } from "./transcript.js";

const KEPT = "All text is kept.";

// By close code, protocols' own 44xx included; `said` is what the server added.
const REFUSALS = {
  1003: () => "This page and the server do not understand each other; reload the page.",
  1008: (said) => `The server does not allow this: ${said}.`,
  1009: () => "The server takes only shorter messages than this page sends.",
  1011: () => "The server had a fault of its own. Try again.",
  1012: () => "The server restarts. Try again in a moment.",
  1013: (said) => `The server is full or busy: ${said}. Try again in a moment.`,
  4400: (said) => `This page and the server do not understand each other (${said}); reload the page.`,
  4401: () => "The server wants a token: Settings, Access.",
  4403: () => "The token does not allow listening. Another one is needed: Settings, Access.",
  4404: (said) => `The server has no such model: ${said}.`,
  4406: (said) => `The server cannot use this sound: ${said}.`,
  4408: () => "Nothing was sent for too long, so the server closed the stream.",
  4409: () => "Another page went on with this stream.",
  4410: () => "The server does not remember this stream any more.",
  4413: () => "This page read too slowly for the server.",
  4429: () => "More sound was sent than the server allows.",
};

/**
 * Why a stream ended that should not have.
 * @param {{code: number, message: string, reached: boolean}} end `reached`: it had been live
 */
export function failure({ code, message, reached }) {
  const said = String(message ?? "").replace(/\.$/, "");
  const sentence = REFUSALS[code]?.(said);
  if (sentence) return reached ? `${sentence} ${KEPT}` : sentence;
  if (reached) return `The connection was lost: ${said}. ${KEPT}`;
  return code === 1006 ? "The server cannot be reached." : `The server refused: ${said}.`;
}

/**
 * Why sound that was asked for did not come, or not all of it.
 * @param {{code: number|null, message: string, error: string, reached: boolean}} end `reached`: some of it came
 */
export function unmade({ code, message, error, reached }) {
  const said = String(message ?? "").replace(/\.$/, "");
  const kept = reached ? " What came so far is kept." : "";
  if (code === 4403) return "The token does not allow making sound. Another one is needed: Settings, Access.";
  if (error === "overloaded") return `The server is busy: ${said}. Try again in a moment.${kept}`;
  if (error === "internal") return `The server had a fault of its own: ${said}.${kept}`;
  if (code === null) return `The server refused: ${said}.${kept}`;
  if (REFUSALS[code]) return REFUSALS[code](said) + kept;
  return reached ? `The connection was lost: ${said}.${kept}` : failure({ code, message });
}

/** A `warning` of the server, or "" where the reader need not know. */
export function warning({ code, message, from, to }) {
  switch (code) {
    case "no_speech":
    case "unknown_field":
    case "resume_unavailable": // the page sends again what is missing
      return "";
    case "lagging":
      return "The server is behind; words come late.";
    case "audio_dropped":
      return `The server could not keep up: sound from ${clock(from)} to ${clock(to)} was left out.`;
    case "clipping":
      return "The sound is too loud and clips. Turn it down, or move away from the microphone.";
    default:
      return message || code;
  }
}

/** Why `/readyz` says no; `reasons` is its list. */
export function unready(reasons) {
  if (reasons.includes("full")) return "All places of the server are taken. Try again in a moment.";
  if (reasons.includes("draining")) return "The server is about to stop. Try again in a moment.";
  if (reasons.includes("warming up")) return "The server is still getting ready. Try again in a moment.";
  return `The server takes no streams now: ${reasons.join(", ") || "it does not say why"}.`;
}
