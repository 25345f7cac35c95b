// The list of what can be listened to.

import { microphones } from "./capture.js";
import { saveChoices } from "./settings.js";

export class Sources {
  /** @param {HTMLSelectElement} select @param {() => void} onChange the user chose another one */
  constructor(select, choices, onChange) {
    Object.assign(this, { select, choices });
    select.addEventListener("change", () => {
      choices.source = select.value;
      saveChoices(choices);
      onChange();
    });
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
    this.list();
  }

  /** Names are known once the permission was given. */
  async list() {
    const named = (await microphones()).filter((d) => d.label);
    const options = [["", "Default microphone"], ...named.map((d) => [d.deviceId, d.label])];
    if (navigator.mediaDevices?.getDisplayMedia) options.push(["tab", "Sound of a tab or the computer"]);
    this.select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
    // A device that is away keeps its place in the choices, for when it comes back.
    this.select.value = options.some(([value]) => value === this.choices.source) ? this.choices.source : "";
  }

  /** What `Capture.open` wants of the present choice. */
  wanted() {
    const { echoCancellation, noiseSuppression, autoGainControl } = this.choices;
    const tab = this.select.value === "tab";
    return {
      kind: tab ? "tab" : "microphone",
      deviceId: tab ? "" : this.select.value,
      constraints: { echoCancellation, noiseSuppression, autoGainControl },
    };
  }
}
