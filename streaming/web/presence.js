// The page goes to the background and comes back: the screen stays awake, and what the browser
// did not let the page hear is counted.

const LOST_S = 0.5; // less is only the time that blocks take

export class Presence {
  /**
   * @param {object} given
   * @param {() => number|null} given.heard seconds heard so far, or null while nothing is listened to
   * @param {(hidden: boolean) => void} given.onHidden
   * @param {(seconds: number) => void} given.onLost after coming back: not heard meanwhile
   * @param {() => void} given.onLeave the page is closed or frozen: save what there is
   */
  constructor({ heard, onHidden, onLost, onLeave }) {
    Object.assign(this, { heard, onHidden, onLost });
    this.lock = null;
    this.left = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#away() : this.#back()));
    window.addEventListener("pagehide", onLeave);
  }

  /** Ask for the screen; the browser takes it back whenever the page is hidden. */
  async keepAwake() {
    const lock = await navigator.wakeLock?.request("screen").catch(() => null);
    if (this.heard() === null) lock?.release(); // ended before it was granted
    else this.lock = lock;
  }

  release() {
    this.lock?.release();
    this.lock = null;
    this.left = null;
  }

  #away() {
    const seconds = this.heard();
    this.left = seconds === null ? null : { at: performance.now(), seconds };
    this.onHidden(true);
  }

  #back() {
    this.onHidden(false);
    if (!this.left || this.heard() === null) return;
    this.keepAwake();
    const away = (performance.now() - this.left.at) / 1000;
    const lost = away - (this.heard() - this.left.seconds);
    this.left = null;
    if (lost > LOST_S) this.onLost(lost);
  }
}
