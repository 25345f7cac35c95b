// Binary frames as the server makes them, for tests.

export function frame(samples, given = {}) {
  const { index = 1, rate = 8000, first = 0, last = false, encoding = 1, magic = 0x4d41, kind = 1, header = 32 } = given;
  const bytes = new ArrayBuffer(header + 2 * samples.length);
  const view = new DataView(bytes);
  view.setUint16(0, magic, true);
  view.setUint8(2, 1);
  view.setUint8(3, kind);
  view.setUint16(4, index, true);
  view.setUint8(6, encoding);
  view.setUint8(7, last ? 1 : 0);
  view.setUint32(8, rate, true);
  view.setUint16(12, 1, true);
  view.setUint16(14, header, true);
  view.setBigUint64(16, BigInt(first), true);
  view.setUint32(24, samples.length, true);
  samples.forEach((sample, i) => view.setInt16(header + 2 * i, sample, true));
  return bytes;
}
