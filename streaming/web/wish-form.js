// What shall be made: the choices that a model offers, and what was chosen.

import { saveChoices } from "./settings.js";
import { wanted } from "./wanted.js";

const MOST_S = 600; // of sound that the page keeps
const MOST_SEED = 2 ** 32; // that may be written
const CHANCE = 1_000_000; // of those that are drawn: few figures, to be noted down
const WORD_S = 1;
const WHOLE_S = 10;
const CHIPS = 40; // words that are offered as buttons

export class WishForm {
  /**
   * @param {HTMLFormElement} form
   * @param {object} choices see settings.js; changed in place
   * @param {() => void} onWish it was sent off
   */
  constructor(form, choices, onWish) {
    Object.assign(this, { form, choices });
    this.fields = form.elements;
    this.chips = form.querySelector(".chips");
    this.models = [];
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      onWish();
    });
    form.addEventListener("input", ({ target }) => this.#changed(target));
    this.fields.model.addEventListener("change", () => this.#offer());
    this.chips.addEventListener("click", ({ target }) => this.#add(target.dataset.label));
  }

  /** @param {object[]} models as `ready.generator` describes them, at least one */
  offer(models) {
    this.models = models;
    const { wish } = this.choices;
    this.fields.model.replaceChildren(...models.map(({ name }) => new Option(name)));
    if (models.some(({ name }) => name === wish.model)) this.fields.model.value = wish.model;
    this.fields.say.value ||= wish.say ?? "";
    this.#offer();
  }

  get model() {
    return this.models.find(({ name }) => name === this.fields.model.value);
  }

  /**
   * What is wanted, as Generation takes it; null where it cannot be, which the form then says.
   * @returns {{model: object, wishes: object[], how: object, seed: number, name: string}|null} `name` for a file
   */
  read() {
    const { model, fields } = this;
    const labels = this.#labels();
    const seconds = fields.seconds.valueAsNumber;
    const seed = fields.seed.value === "" ? Math.floor(Math.random() * CHANCE) : fields.seed.valueAsNumber;
    const count = labels.length || 1;
    this.#mistake("seconds", mistakenSeconds(seconds, count));
    this.#mistake("seed", Number.isInteger(seed) && seed >= 0 && seed < MOST_SEED ? "" : "A whole number below 4294967296, or nothing.");
    const wrong = this.form.querySelector("[aria-invalid=true]");
    if (wrong) {
      wrong.focus();
      return null;
    }
    this.choices.wish = { model: model.name, say: fields.say.value, speaker: fields.speaker.value };
    saveChoices(this.choices);
    const how = {};
    if (fields.speaker.value) how.voice = fields.speaker.value;
    // The model's own are not sent: they are its maker's to change.
    if (fields.temperature.valueAsNumber !== model.temperature) how.temperature = fields.temperature.valueAsNumber;
    if (fields.topP.valueAsNumber !== model.top_p) how.top_p = fields.topP.valueAsNumber;
    const wishes = labels.length ? labels.map((label) => ({ label, seconds })) : [{ label: null, seconds }];
    return { model, wishes, how, seed, name: labels.join("-") || model.name };
  }

  keepSeed(seed) {
    this.fields.seed.value = seed;
    this.#mistake("seed", "");
  }

  #offer() {
    const { model, fields } = this;
    const speaks = model.labels.length > 0;
    this.form.classList.toggle("speaks", speaks);
    this.form.querySelector("h2").textContent = speaks ? "Write, and hear it made." : "Listen while it is made.";
    if (!fields.say.value || wanted(fields.say.value, model.labels).unknown.length) fields.say.value = example(model);
    this.chips.replaceChildren(...model.labels.slice(0, CHIPS).map(chip));
    fields.speaker.replaceChildren(new Option("any", ""), ...model.speakers.map((name) => new Option(name)));
    fields.speaker.disabled = !model.speakers.length;
    if (model.speakers.includes(this.choices.wish.speaker)) fields.speaker.value = this.choices.wish.speaker;
    fields.temperature.value = model.temperature;
    fields.topP.value = model.top_p;
    for (const name of ["say", "seconds", "seed"]) this.#mistake(name, "");
    fields.seconds.value = "";
    this.#length();
    this.#tell();
  }

  /** Words are short, what has none goes on; a length that the user chose stays. */
  #length() {
    const { say, seconds } = this.fields;
    const worded = this.model.labels.length > 0 && say.value.trim() !== "";
    this.form.querySelector("#seconds-name").textContent = worded ? "Seconds a word" : "Seconds";
    const [usual, other] = worded ? [WORD_S, WHOLE_S] : [WHOLE_S, WORD_S];
    if (seconds.value === "" || seconds.valueAsNumber === other) seconds.value = usual;
  }

  #changed(field) {
    if (field.name === "say") {
      this.#labels(); // what was wrong may be right now
      this.#length();
    }
    if (field.getAttribute("aria-invalid") && field.name !== "say") this.#mistake(field.name, "");
    this.#tell();
  }

  #labels() {
    if (!this.model.labels.length) return [];
    const { labels, unknown } = wanted(this.fields.say.value, this.model.labels);
    this.#mistake("say", unknown.length ? strange(unknown, this.model) : "");
    return labels;
  }

  #add(label) {
    if (label === undefined) return;
    const { say } = this.fields;
    say.value = `${say.value.trimEnd()} ${label} `.trimStart();
    this.#labels();
    this.#length();
  }

  #mistake(name, words) {
    this.form.querySelector(`#${name}-mistake`).textContent = words;
    if (words) this.fields[name].setAttribute("aria-invalid", "true");
    else this.fields[name].removeAttribute("aria-invalid");
  }

  #tell() {
    const { temperature, topP } = this.fields;
    for (const field of [temperature, topP]) {
      this.form.querySelector(`#${field.name}-value`).textContent = field.valueAsNumber.toFixed(2);
    }
  }
}

function chip(label) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.label = label;
  button.textContent = label;
  return button;
}

/** Something to begin with. */
function example({ labels }) {
  const pi = ["three", "one", "four"];
  return (pi.every((word) => labels.includes(word)) ? pi : labels.slice(0, 3)).join(" ");
}

function strange(unknown, { name, labels }) {
  const few = labels.slice(0, 12).join(", ") + (labels.length > 12 ? ", …" : "");
  return `${name} cannot say “${[...new Set(unknown)].slice(0, 3).join("”, “")}”. It knows ${few}.`;
}

function mistakenSeconds(seconds, count) {
  if (!(seconds >= 0.1)) return "At least 0.1 seconds.";
  if (seconds * count <= MOST_S) return "";
  return count > 1 ? `At most ${MOST_S} seconds altogether.` : `At most ${MOST_S} seconds.`;
}
