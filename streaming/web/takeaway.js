// The transcript out of the page: to a file, or to the clipboard.

import * as exports from "./exports.js";

/** Save as txt, srt, vtt or json. */
export function download(lines, format, about) {
  const body = format === "json" ? exports.json(lines, about) : exports[format](lines);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([body], { type: "text/plain;charset=utf-8" }));
  link.download = `captions-${new Date().toISOString().slice(0, 16).replace(/[:T]/g, "-")}.${format}`;
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
