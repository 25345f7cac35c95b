// Colours of the page for canvases: the style sheet has them as six-digit hex.

const STOPS = ["--paper", "--hush", "--accent", "--loud"];

/** 256 colours from silent to loud, as RGBA. */
export function ramp(style) {
  const stops = STOPS.map((name) => rgb(style.getPropertyValue(name)));
  const colours = new Uint8ClampedArray(256 * 4);
  for (let i = 0; i < 256; i++) {
    const x = (i / 255) ** 1.4 * (stops.length - 1);
    const below = Math.min(Math.floor(x), stops.length - 2);
    colours.set([...blend(stops[below], stops[below + 1], x - below), 255], i * 4);
  }
  return colours;
}

/** Call back when the reader's preference changes what the colours are. */
export function onRecolour(recolour) {
  for (const query of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)"]) {
    matchMedia(query).addEventListener("change", recolour);
  }
}

const blend = (a, b, x) => a.map((v, i) => v + (b[i] - v) * x);

function rgb(colour) {
  const hex = colour.trim().replace("#", "");
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
}
