// A binary frame of the server: 32 bytes that say what follows, then samples.

const MAGIC = 0x4d41; // "AM"
const AUDIO = 1;
const LINEAR16 = 1;
const LAST = 1; // bit of the flags

/**
 * @param {ArrayBuffer} frame
 * @returns {{index: number, last: boolean, rate: number, first: number, samples: Int16Array}} `first`
 *   is the number of the first sample in its recording
 * @throws {Error} it is no frame that this page asked for
 */
export function readFrame(frame) {
  const view = new DataView(frame);
  const known = frame.byteLength >= 32 && view.getUint16(0, true) === MAGIC && view.getUint8(3) === AUDIO;
  if (!known || view.getUint8(6) !== LINEAR16) throw new Error("a frame that holds no 16-bit sound");
  const header = view.getUint16(14, true);
  const count = view.getUint32(24, true);
  if (header % 2 || frame.byteLength !== header + 2 * count) throw new Error("a frame of another length than it says");
  return {
    index: view.getUint16(4, true),
    last: Boolean(view.getUint8(7) & LAST),
    rate: view.getUint32(8, true),
    first: Number(view.getBigUint64(16, true)),
    samples: new Int16Array(frame, header, count), // both little-endian: so is every machine with a browser
  };
}
