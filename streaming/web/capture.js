// A microphone, or the sound of a tab or of the whole computer, as blocks in the worker.

const START_MS = 6000;

/** Why this page cannot listen, in words for its user, or null if it can. */
export function obstacle() {
  if (!window.isSecureContext) {
    const here = `${location.host}${location.pathname}`;
    return (
      `Browsers give the microphone only to secure pages. Open https://${here}, ` +
      "or reach this server as localhost (an SSH tunnel will do). Recordings can still be dropped here."
    );
  }
  if (!navigator.mediaDevices?.getUserMedia) return "This browser offers no microphone to pages.";
  if (!window.AudioWorkletNode) return "This browser has no AudioWorklet; a newer one is needed.";
  return null;
}

/** The microphones; their names are empty until the permission was given once. */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices.filter((d) => d.kind === "audioinput" && d.deviceId && d.deviceId !== "default");
}

export class Capture {
  /**
   * Open the source and start it.
   * @param {object} given
   * @param {"microphone"|"tab"} given.kind
   * @param {string} [given.deviceId]
   * @param {object} given.constraints echoCancellation, noiseSuppression, autoGainControl
   * @param {() => void} given.onEnded the device went away or sharing was ended
   */
  static async open(given) {
    // Made before the first await: on iOS only a context of the gesture itself may run.
    const context = new AudioContext();
    const resumed = context.resume();
    let media = null;
    try {
      media = await Capture.#media(given);
      await inTime(resumed);
      await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
      return new Capture(context, media, given.onEnded);
    } catch (error) {
      media?.getTracks().forEach((track) => track.stop());
      await context.close();
      throw error;
    }
  }

  static async #media({ kind, deviceId, constraints }) {
    if (kind === "tab") {
      const media = await navigator.mediaDevices.getDisplayMedia({ audio: true, video: true });
      if (!media.getAudioTracks().length) {
        media.getTracks().forEach((track) => track.stop());
        throw new Error("The share holds no sound: choose a tab and tick “share audio”.");
      }
      return media;
    }
    const audio = { channelCount: 1, ...constraints };
    if (deviceId) audio.deviceId = { exact: deviceId };
    return navigator.mediaDevices.getUserMedia({ audio });
  }

  constructor(context, media, onEnded) {
    this.live = true;
    this.context = context;
    this.media = media;
    this.track = media.getAudioTracks()[0];
    this.track.addEventListener("ended", onEnded);
    this.node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    this.source = context.createMediaStreamSource(new MediaStream([this.track]));
    this.source.connect(this.node);
  }

  get sampleRate() {
    return this.context.sampleRate;
  }

  get name() {
    return this.track.label;
  }

  /** Send the blocks to a worker that takes `{samples: Float32Array}`. */
  deliver(worker) {
    const { port1, port2 } = new MessageChannel();
    worker.postMessage({ port: port2 }, [port2]);
    this.node.port.postMessage({ out: port1 }, [port1]);
  }

  set muted(muted) {
    this.track.enabled = !muted;
  }

  /** Go on after the browser stopped the context, as it may while the page is hidden. */
  resume() {
    return this.context.resume();
  }

  async close() {
    if (this.context.state === "closed") return;
    this.source.disconnect();
    this.media.getTracks().forEach((track) => track.stop());
    await this.context.close().catch(() => {}); // closed meanwhile
  }
}

/** A context without any sound device to run on never starts, and never says so. */
export async function inTime(started) {
  let timer;
  const late = new Promise((_, fail) => {
    const error = new Error("The browser's sound does not start. Is any sound device, if only a speaker, connected?");
    timer = setTimeout(fail, START_MS, error);
  });
  try {
    await Promise.race([started, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What went wrong with `Capture.open`, in words for the user. */
export function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The microphone was not allowed. The padlock beside the address can allow it.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No such microphone is connected.";
    case "NotReadableError":
      return "The microphone is in use by another program.";
    default:
      return error.message;
  }
}
