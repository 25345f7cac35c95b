// A connection that is silent may be dead: the browser would not notice for minutes.

export class Watch {
  /**
   * @param {object} given
   * @param {() => void} given.ping make the server say something
   * @param {() => void} given.onDead it said nothing all the same
   */
  constructor({ ping, onDead, everyMs = 4000 }) {
    Object.assign(this, { ping, onDead, everyMs });
    this.silent = 0; // ticks
  }

  start() {
    this.stop();
    this.silent = 0;
    this.timer = setInterval(() => this.#tick(), this.everyMs);
  }

  stop() {
    clearInterval(this.timer);
  }

  heard() {
    this.silent = 0;
  }

  #tick() {
    this.silent += 1;
    if (this.silent === 2) this.ping();
    if (this.silent === 4) {
      this.stop();
      this.onDead();
    }
  }
}
