// Off the main thread: samples to 16 bit, levels and columns of the spectrogram.

import { levels, toS16 } from "./pcm.js";
import { Spectrum } from "./spectrum.js";

let spectrum = null;

function take({ data }) {
  if (data.rate) spectrum = new Spectrum(data.rate, data.rows);
  if (data.port) data.port.onmessage = take;
  if (data.mark !== undefined) postMessage({ mark: data.mark }); // all before it was posted
  if (!data.samples || !spectrum) return;
  const pcm = toS16(data.samples);
  const columns = spectrum.feed(data.samples);
  postMessage({ pcm, columns, ...levels(data.samples) }, [pcm.buffer]);
}

onmessage = take;
