// Sixteen, eight or four floats at a time, in the compiler's own vector types: one source for every
// instruction set. Compiled once a set, each in a namespace of its own (AM_ISA).
#pragma once

#include <cstdint>
#include <cstring>

#define AM_INLINE static inline __attribute__((always_inline))
#define AM_INLINE_MEMBER inline __attribute__((always_inline))

namespace AM_ISA {

constexpr int BYTES = AM_VECTOR_BYTES;
constexpr int LANES = BYTES / 4;

typedef float vf __attribute__((vector_size(BYTES)));
typedef int32_t vi __attribute__((vector_size(BYTES)));

AM_INLINE vf load(const float* p) {
  vf v;
  memcpy(&v, p, BYTES);
  return v;
}

AM_INLINE void store(float* p, vf v) { memcpy(p, &v, BYTES); }

// A brace list, not a loop over lanes: the loop is compiled to inserts and costs 3.7x in the scan.
AM_INLINE vf splat(float s) {
#if AM_VECTOR_BYTES == 64
  return (vf){s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s};
#elif AM_VECTOR_BYTES == 32
  return (vf){s, s, s, s, s, s, s, s};
#else
  return (vf){s, s, s, s};
#endif
}

AM_INLINE vf vmax(vf a, vf b) { return a > b ? a : b; }
AM_INLINE vf vmin(vf a, vf b) { return a < b ? a : b; }

AM_INLINE float sum(vf v) {
  float s = 0;
  for (int i = 0; i < LANES; i++) s += v[i];
  return s;
}

// Of n numbers, a multiple of LANES; in eight sums where there are sixteen lanes, so that the wider
// vectors come to the same bits.
AM_INLINE float sum_of_squares(const float* x, int n) {
  constexpr int WIDE = BYTES < 32 ? BYTES : 32;
  typedef float vs __attribute__((vector_size(WIDE)));
  vs squares = {};
  for (int i = 0; i < n; i += WIDE / 4) {
    vs v;
    memcpy(&v, x + i, WIDE);
    squares += v * v;
  }
  float s = 0;
  for (int i = 0; i < WIDE / 4; i++) s += squares[i];
  return s;
}

// 2^x on [-0.5, 0.5], degree 5, 7.5e-8; a minimax fit, constant term first.
constexpr float E0 = 1.0f, E1 = 0.693147182f, E2 = 0.240226462f, E3 = 0.0555032878f,
                E4 = 0.00961823698f, E5 = 0.00133999763f;

// Adding 1.5 * 2^23 rounds to the nearest integer; that needs the additions kept in this order, so
// the library is compiled without -ffast-math.
AM_INLINE vf exp2v(vf x) {
  const vf magic = splat(12582912.0f);
  x = vmin(vmax(x, splat(-126.0f)), splat(126.0f));
  vf t = x + magic;
  vi whole = (vi)t << 23;
  vf r = x - (t - magic);
  vf p = splat(E5);
  p = p * r + splat(E4);
  p = p * r + splat(E3);
  p = p * r + splat(E2);
  p = p * r + splat(E1);
  p = p * r + splat(E0);
  return (vf)((vi)p + whole);
}

constexpr float LOG2E = 1.44269504f;

AM_INLINE vf expv(vf x) { return exp2v(x * splat(LOG2E)); }

// For sequences with gradients: a degree more, as a state is a product of hundreds of these. 2^x for
// |x| <= 126, and NaN for NaN.
constexpr float LN2 = 6.93147203e-1f;

AM_INLINE vf exact_exp2(vf x) {
  const vf t = x + splat(12582912.0f);
  const vf r = x - (t - splat(12582912.0f));
  vf p = splat(1.53533619e-4f);
  p = p * r + splat(1.33988744e-3f);
  p = p * r + splat(9.61843736e-3f);
  p = p * r + splat(5.55033247e-2f);
  p = p * r + splat(2.40226479e-1f);
  p = p * r + splat(LN2);
  p = p * r + splat(1.0f);
  return (vf)((vi)p + ((vi)t << 23));
}

// e^x, as far as float32 goes.
AM_INLINE vf exact_exp(vf x) {
  x = vmin(splat(126.0f / LOG2E), vmax(splat(-126.0f / LOG2E), x));
  return exact_exp2(x * splat(LOG2E));
}

AM_INLINE vf sigmoid(vf x) { return splat(1.0f) / (splat(1.0f) + exact_exp(-x)); }

AM_INLINE vf magnitude(vf x) { return (vf)((vi)x & 0x7fffffff); }

AM_INLINE vf silu(vf x) { return x / (splat(1.0f) + expv(-x)); }

// log(1 + u) for u in 0..1: 2 atanh(u / (u + 2)) as a series.
AM_INLINE vf log1p01(vf u) {
  vf s = u / (u + splat(2.0f)), q = s * s;
  vf p = splat(1.0f / 15);
  p = p * q + splat(1.0f / 13);
  p = p * q + splat(1.0f / 11);
  p = p * q + splat(1.0f / 9);
  p = p * q + splat(1.0f / 7);
  p = p * q + splat(1.0f / 5);
  p = p * q + splat(1.0f / 3);
  p = p * q + splat(1.0f);
  return splat(2.0f) * s * p;
}

// log(1 + e^x) = max(x, 0) + log1p(e^-|x|)
AM_INLINE vf softplus(vf x) { return vmax(x, splat(0.0f)) + log1p01(expv(x < splat(0.0f) ? x : -x)); }

}  // namespace AM_ISA
