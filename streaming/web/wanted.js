// What is written in the field, as labels of the model. Pure: text in, labels out.

const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/**
 * "three, ONE 4" for a model that knows the digits: three, one, four. Labels of several words are
 * found too, the longest first.
 * @param {string} text
 * @param {string[]} labels of the model
 * @returns {{labels: string[], unknown: string[]}} in the order of the text
 */
export function wanted(text, labels) {
  const known = labels.map((label) => ({ label, words: split(label) })).sort((a, b) => b.words.length - a.words.length);
  const spelled = split(text).flatMap((word) => digits(word, labels) ?? [word]);
  const found = { labels: [], unknown: [] };
  for (let at = 0; at < spelled.length; ) {
    const match = known.find(({ words }) => words.length && words.every((word, i) => spelled[at + i] === word));
    if (match) found.labels.push(match.label);
    else found.unknown.push(spelled[at]);
    at += match ? match.words.length : 1;
  }
  return found;
}

const split = (text) => text.toLowerCase().match(/[\p{L}\p{N}_'’-]+/gu) ?? [];

/** The names of the figures of a number, where the model has names for them and not for the number. */
function digits(word, labels) {
  if (!/^[0-9]+$/.test(word) || labels.includes(word)) return null;
  const names = [...word].map((figure) => DIGITS[figure]);
  return names.every((name) => labels.includes(name)) ? names : null;
}
