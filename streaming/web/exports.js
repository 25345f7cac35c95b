// The transcript as text, subtitles and JSON.

import { text } from "./transcript.js";

const COLUMNS = 42;
const ROWS = 2;
const SHORTEST_S = 1;
const LONGEST_S = 7;
const PAUSE_S = 1;

export function txt(lines) {
  return lines.map(text).filter(Boolean).join("\n") + "\n";
}

export function json(lines, about = {}) {
  const rounded = (seconds) => Math.round(seconds * 1000) / 1000;
  const timed = (item) => ({ ...item, start: rounded(item.start), end: rounded(item.end) });
  const all = lines.filter(text).map((line) =>
    timed({
      start: line.start,
      end: line.end,
      text: text(line),
      confidence: line.confidence,
      words: line.words.map(({ word, start, end, confidence }) => timed({ word, start, end, confidence })),
    }));
  return JSON.stringify({ ...about, text: txt(lines).trim().replaceAll("\n", " "), lines: all }, null, 2) + "\n";
}

export function srt(lines) {
  return cues(lines)
    .map((cue, i) => `${i + 1}\n${stamp(cue.start, ",")} --> ${stamp(cue.end, ",")}\n${cue.rows.join("\n")}\n`)
    .join("\n");
}

export function vtt(lines) {
  const escaped = (row) => row.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const body = cues(lines).map(
    (cue) => `${stamp(cue.start, ".")} --> ${stamp(cue.end, ".")}\n${cue.rows.map(escaped).join("\n")}\n`);
  return ["WEBVTT\n", ...body].join("\n");
}

/** Words in subtitles of at most two rows of 42 columns, 1 to 7 seconds, not across a pause. */
export function cues(lines) {
  const groups = unhurried(lines.flatMap((line) => grouped(timedWords(line))));
  let free = 0; // from when on the screen is empty
  return groups.map((group, i) => {
    const start = Math.max(group[0].start, free);
    const shortest = start + SHORTEST_S;
    const next = i + 1 < groups.length ? groups[i + 1][0].start : Infinity;
    // Where words come too fast for a second a cue, the next one waits for its turn.
    free = Math.min(Math.max(group.at(-1).end, shortest), Math.max(next, shortest), start + LONGEST_S);
    return { start, end: free, rows: wrap(group) };
  });
}

function grouped(words) {
  const done = [];
  for (const word of words) {
    const group = done.at(-1);
    if (group && word.start - group.at(-1).end < PAUSE_S && fits([...group, word])) group.push(word);
    else done.push([word]);
  }
  return done;
}

/** A cue that would be gone within a second is put together with the next one, if that fits. */
function unhurried(groups) {
  const done = [];
  for (const group of groups) {
    const last = done.at(-1);
    if (last && group[0].start - last[0].start < SHORTEST_S && fits([...last, ...group])) last.push(...group);
    else done.push([...group]);
  }
  return done;
}

const fits = (words) => wrap(words).length <= ROWS && words.at(-1).end - words[0].start <= LONGEST_S;

/** Words with times; where the server gave none, spread evenly over the line. */
function timedWords(line) {
  if (line.words.length) return line.words;
  const words = text(line).split(/\s+/).filter(Boolean);
  const step = (line.end - line.start) / words.length;
  return words.map((word, i) => ({ word, start: line.start + i * step, end: line.start + (i + 1) * step }));
}

function wrap(words) {
  const rows = [];
  for (const { word } of words) {
    const longer = rows.length ? `${rows.at(-1)} ${word}` : word;
    if (rows.length && longer.length <= COLUMNS) rows[rows.length - 1] = longer;
    else rows.push(word);
  }
  return rows;
}

function stamp(seconds, mark) {
  const ms = Math.round(seconds * 1000);
  const pad = (n, width = 2) => String(n).padStart(width, "0");
  const minutes = Math.floor(ms / 60_000);
  return `${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}:${pad(Math.floor(ms / 1000) % 60)}${mark}${pad(ms % 1000, 3)}`;
}
