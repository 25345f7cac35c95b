// The views of the page. Which one is shown stands in the address, so that it can be linked to.

export class Tabs {
  /**
   * @param {HTMLElement} list of buttons, each with the id of what it shows in aria-controls
   * @param {(name: string) => void} onShow
   */
  constructor(list, onShow) {
    this.tabs = [...list.querySelectorAll("[role=tab]")];
    this.onShow = onShow;
    list.addEventListener("click", ({ target }) => {
      const tab = target.closest("[role=tab]");
      if (tab) this.show(nameOf(tab));
    });
    list.addEventListener("keydown", (event) => this.#key(event));
    window.addEventListener("hashchange", () => this.#follow());
    this.#follow();
  }

  /** @param {string} name id of the view */
  show(name) {
    this.shown = name;
    for (const tab of this.tabs) {
      const selected = nameOf(tab) === name;
      tab.setAttribute("aria-selected", selected);
      tab.tabIndex = selected ? 0 : -1;
      document.getElementById(nameOf(tab)).hidden = !selected;
    }
    document.body.dataset.view = name;
    const first = name === nameOf(this.tabs[0]);
    history.replaceState(null, "", first ? location.pathname + location.search : `#${name}`);
    this.onShow(name);
  }

  #follow() {
    const named = this.tabs.find((tab) => `#${nameOf(tab)}` === location.hash) ?? this.tabs[0];
    if (nameOf(named) !== this.shown) this.show(nameOf(named));
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    const now = this.tabs.findIndex((tab) => tab.tabIndex === 0);
    const ends = { Home: 0, End: this.tabs.length - 1 };
    const next = ends[event.key] ?? (now + (steps[event.key] ?? NaN) + this.tabs.length) % this.tabs.length;
    if (!(next >= 0)) return;
    event.preventDefault();
    this.show(nameOf(this.tabs[next]));
    this.tabs[next].focus();
  }
}

const nameOf = (tab) => tab.getAttribute("aria-controls");
