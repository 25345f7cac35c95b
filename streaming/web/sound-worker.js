// Off the main thread: samples to 16 bit, levels and columns of the spectrogram.

import { Decimator } from "./decimate.js";
import { levels, toS16 } from "./pcm.js";
import { Spectrum } from "./spectrum.js";

let decimator = null;
let spectrum = null;

function take({ data }) {
  if (data.rate) {
    decimator = new Decimator(data.factor);
    spectrum = new Spectrum(data.rate / data.factor, data.rows);
  }
  if (data.port) data.port.onmessage = take;
  if (data.mark !== undefined) postMessage({ mark: data.mark }); // all before it was posted
  if (!data.samples || !spectrum) return;
  const samples = decimator.feed(data.samples);
  const pcm = toS16(samples);
  const columns = spectrum.feed(samples);
  postMessage({ pcm, columns, ...levels(data.samples) }, [pcm.buffer]);
}

onmessage = take;
