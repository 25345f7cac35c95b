// The bar above: the state, what answers, how late it is; and the line for what has to be said.

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
const RUNNING = new Set(["connecting", "live", "muted", "reconnecting", "draining"]);

export class Status {
  /** @param {(id: string) => HTMLElement} $ state, notice, notice-text, notice-close, lag, facts */
  constructor($) {
    this.$ = $;
    this.model = "";
    this.background = false;
    $("notice-close").addEventListener("click", () => this.say(""));
  }

  get name() {
    return document.body.dataset.state;
  }

  show(name) {
    document.body.dataset.state = name;
    this.$("state").textContent = LABELS[name];
    this.#title();
  }

  /** Say in the title, which is all one sees of a hidden page, that it listens. */
  hidden(background) {
    this.background = background;
    this.#title();
  }

  /** @param {"alarm"|"info"} tone an alarm stays until it is dismissed or solved */
  say(words, tone = "alarm") {
    clearTimeout(this.timer);
    this.$("notice").hidden = !words;
    this.$("notice").dataset.tone = tone;
    this.$("notice-text").textContent = words;
    if (words && tone === "info") this.timer = setTimeout(() => this.say(""), 4000);
  }

  answering(model) {
    this.model = model || this.model;
    this.$("facts").textContent = this.model;
  }

  metrics({ lag_s: lag = 0, state_bytes: bytes, step_ms_p50: step, rtf }, paced) {
    this.$("lag").hidden = !paced; // without a pace there is no now to be behind of
    this.$("lag").textContent = `${lag.toFixed(1)} s behind`;
    this.$("lag").classList.toggle("late", lag > LATE_S);
    const facts = [this.model];
    if (bytes) facts.push(`${Math.round(bytes / 1024)} KB of state`);
    if (step) facts.push(`${step.toFixed(1)} ms a step`);
    if (rtf) facts.push(`${rtf.toFixed(2)} × real time`);
    this.$("facts").textContent = facts.filter(Boolean).join("  ·  ");
  }

  quiet() {
    this.$("lag").hidden = true;
    this.$("facts").textContent = this.model;
  }

  #title() {
    const running = RUNNING.has(this.name);
    const words = this.background && running ? "⚠ Listening in the background" : `● ${LABELS[this.name]}`;
    document.title = running ? `${words} · audiomamba` : "audiomamba";
  }
}
