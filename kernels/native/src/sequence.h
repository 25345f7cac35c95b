// Sequences as they lie in memory, whichever axis is contiguous: pieces of some steps and a vector of
// channels are read from there and written there, so that nobody has to copy a tensor into another order.
#pragma once

#include "audiomamba.h"
#include "vector.h"

namespace AM_ISA {

constexpr int PIECE = 16;  // steps; a multiple of LANES, so that a block of LANES^2 is turned at once

#if defined(__clang__)
#define AM_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define AM_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

AM_INLINE vf low_halves(vf a, vf b) {
#if AM_VECTOR_BYTES == 64
  return AM_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif AM_VECTOR_BYTES == 32
  return AM_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return AM_SHUFFLE(a, b, 0, 4, 1, 5);
#endif
}

AM_INLINE vf high_halves(vf a, vf b) {
#if AM_VECTOR_BYTES == 64
  return AM_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif AM_VECTOR_BYTES == 32
  return AM_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return AM_SHUFFLE(a, b, 2, 6, 3, 7);
#endif
}

// Lanes become vectors. To deal the second half of the vectors between the first, lane by lane, is to
// turn the digits of an index (vector, lane) by one; after log2(LANES) times they have changed places.
AM_INLINE void transpose(vf* x) {
  vf other[LANES];
#pragma GCC unroll 4
  for (int round = 1; round < LANES; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) other[i] = x[i];
#pragma GCC unroll 8
    for (int i = 0; i < LANES / 2; i++) {
      x[2 * i] = low_halves(other[i], other[i + LANES / 2]);
      x[2 * i + 1] = high_halves(other[i], other[i + LANES / 2]);
    }
  }
}

// `length` steps from `first` on, which is counted in the order of the recurrence, of `width` channels
// from c on. Lanes past the width are zeros, and are not written. What lies as many steps and channels on
// is fetched meanwhile: a vector here and one a thousand floats on is no pattern that a processor sees.
struct Window {
  int64_t row, first, steps, c;  // steps: of the whole sequence
  int length, width;
  bool reverse;
  int next_steps, next_channels;

  int64_t time(int k) const { return reverse ? steps - 1 - first - k : first + k; }
  float* from(const am_sequence& s) const { return s.at + row * s.row + time(0) * s.step + c * s.channel; }
  int64_t stride(const am_sequence& s) const { return reverse ? -s.step : s.step; }
};

template <int WRITTEN>
AM_INLINE void fetch_next(const am_sequence& s, const Window& at) {
  const int64_t step = at.stride(s);
  const float* next = at.from(s) + at.next_steps * step + at.next_channels * s.channel;
  if (s.channel == 1)
    for (int k = 0; k < at.length; k++) __builtin_prefetch(next + k * step, WRITTEN);
  else
    for (int lane = 0; lane < at.width; lane++) __builtin_prefetch(next + lane * s.channel, WRITTEN);
}

static inline void read(vf* block, const am_sequence& s, const Window& at) {
  fetch_next<0>(s, at);
  const float* from = at.from(s);
  const int64_t step = at.stride(s);
  const bool whole = at.width == LANES;
  if (whole && s.channel == 1) {
    for (int k = 0; k < at.length; k++) block[k] = load(from + k * step);
    return;
  }
  int k = 0;
  if (whole && (step == 1 || step == -1))
    for (; k + LANES <= at.length; k += LANES) {
      vf turned[LANES];
      const float* low = step == 1 ? from + k : from - k - (LANES - 1);
      for (int lane = 0; lane < LANES; lane++) turned[lane] = load(low + lane * s.channel);
      transpose(turned);
      for (int i = 0; i < LANES; i++) block[k + i] = turned[step == 1 ? i : LANES - 1 - i];
    }
  for (; k < at.length; k++) {
    float lanes[LANES] = {};
    for (int lane = 0; lane < at.width; lane++) lanes[lane] = from[k * step + lane * s.channel];
    block[k] = load(lanes);
  }
}

static inline void write(const vf* block, const am_sequence& s, const Window& at) {
  fetch_next<1>(s, at);
  float* to = at.from(s);
  const int64_t step = at.stride(s);
  const bool whole = at.width == LANES;
  if (whole && s.channel == 1) {
    for (int k = 0; k < at.length; k++) store(to + k * step, block[k]);
    return;
  }
  int k = 0;
  if (whole && (step == 1 || step == -1))
    for (; k + LANES <= at.length; k += LANES) {
      vf turned[LANES];
      for (int i = 0; i < LANES; i++) turned[step == 1 ? i : LANES - 1 - i] = block[k + i];
      transpose(turned);
      float* low = step == 1 ? to + k : to - k - (LANES - 1);
      for (int lane = 0; lane < LANES; lane++) store(low + lane * s.channel, turned[lane]);
    }
  for (; k < at.length; k++)
    for (int lane = 0; lane < at.width; lane++) to[k * step + lane * s.channel] = block[k][lane];
}

// Between (channels, count) in memory and a vector for each of the count.
static inline void gather(vf* to, const float* from, int count, int width) {
  int n = 0;
  if (width == LANES)
    for (; n + LANES <= count; n += LANES) {
      for (int lane = 0; lane < LANES; lane++) to[n + lane] = load(from + lane * count + n);
      transpose(to + n);
    }
  for (; n < count; n++) {
    float lanes[LANES] = {};
    for (int lane = 0; lane < width; lane++) lanes[lane] = from[lane * count + n];
    to[n] = load(lanes);
  }
}

static inline void scatter(const vf* from, float* to, int count, int width) {
  int n = 0;
  if (width == LANES)
    for (; n + LANES <= count; n += LANES) {
      vf turned[LANES];
      for (int i = 0; i < LANES; i++) turned[i] = from[n + i];
      transpose(turned);
      for (int lane = 0; lane < LANES; lane++) store(to + lane * count + n, turned[lane]);
    }
  for (; n < count; n++)
    for (int lane = 0; lane < width; lane++) to[lane * count + n] = from[n][lane];
}

// Sums over the lanes of `count` vectors, `stride` apart.
static inline void sum_lanes(const vf* from, int stride, float* to, int count) {
  int n = 0;
  for (; n + LANES <= count; n += LANES) {
    vf turned[LANES];
    for (int i = 0; i < LANES; i++) turned[i] = from[(n + i) * stride];
    transpose(turned);
    for (int width = LANES / 2; width; width /= 2)
      for (int i = 0; i < width; i++) turned[i] += turned[i + width];
    store(to + n, turned[0]);
  }
  for (; n < count; n++) to[n] = sum(from[n * stride]);
}

}  // namespace AM_ISA
