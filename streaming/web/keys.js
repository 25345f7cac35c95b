// The keyboard: one key an action, never while something is typed or a dialog is open.

const KEYS = {
  " ": "start",
  m: "mute",
  e: "export",
  f: "full",
  g: "generate",
  "+": "larger",
  "=": "larger",
  "-": "smaller",
  Escape: "leave",
};

/** @param {() => Record<string, () => void>} actions of what is shown, by the names above */
export function bindKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const action = actions()[name];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (document.querySelector("dialog[open]")) return;
    // Space on a button or a list is the browser's own.
    if (event.target.closest("input, select, textarea, audio, [popover]")) return;
    if (event.key === " " && event.target.closest("button")) return;
    if (event.key !== "Escape") event.preventDefault(); // it also closes what is open
    action();
  });
}
