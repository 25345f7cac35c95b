// Sample formats and levels. Pure: arrays in, arrays out.

/** Float samples in -1..1 to signed 16 bit, rounded to nearest; out of range is clipped. */
export function toS16(samples) {
  const out = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    const scaled = Math.round(samples[i] * 32768);
    out[i] = scaled > 32767 ? 32767 : scaled < -32768 ? -32768 : scaled;
  }
  return out;
}

/** The mean of all channels; one channel is returned as it is. */
export function mixDown(channels) {
  if (channels.length === 1) return channels[0];
  const out = new Float32Array(channels[0].length);
  for (const channel of channels) for (let i = 0; i < out.length; i++) out[i] += channel[i];
  for (let i = 0; i < out.length; i++) out[i] /= channels.length;
  return out;
}

/** Highest absolute value and root mean square of a block, both 0..1. */
export function levels(samples) {
  let peak = 0;
  let sum = 0;
  for (const x of samples) {
    const size = Math.abs(x);
    if (size > peak) peak = size;
    sum += x * x;
  }
  return { peak, rms: samples.length ? Math.sqrt(sum / samples.length) : 0 };
}

/** Where an amplitude stands on a meter that shows -60 dB at 0 and 0 dB at 1. */
export function meterPosition(amplitude) {
  const db = 20 * Math.log10(Math.max(amplitude, 1e-6));
  return Math.min(1, Math.max(0, 1 + db / 60));
}
