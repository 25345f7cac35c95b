// What leaves the page: to a file, or to the clipboard.

import * as exports from "./exports.js";

/** Save as txt, srt, vtt or json. */
export function download(lines, format, about) {
  const body = format === "json" ? exports.json(lines, about) : exports[format](lines);
  const stamp = new Date().toISOString().slice(0, 16).replace(/[:T]/g, "-");
  save(new Blob([body], { type: "text/plain;charset=utf-8" }), `captions-${stamp}.${format}`);
}

/** Save a file where the browser saves them. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** @returns {Promise<boolean>} whether the text is on the clipboard */
export async function copy(lines) {
  const text = exports.txt(lines);
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // pages that are not secure have no other way
  }
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
