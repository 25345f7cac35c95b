// The next class from logits: temperature, nucleus, and a number that depends on seed and place alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vector.h"

namespace AM_ISA {

constexpr int CLASSES = 256;

// In [0, 1), 24 bits: the output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable
// pseudorandom number generators", 2014) at a counter, so that nothing is kept between samples.
static inline float uniform(uint64_t seed, uint64_t index) {
  uint64_t x = seed + 0x9E3779B97F4A7C15ull * (index + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  x ^= x >> 31;
  return static_cast<float>(x >> 40) * 0x1p-24f;
}

// Sum of those of 256 weights that are at least `least`.
AM_INLINE float mass(const float* p, float least) {
  vf total = splat(0.0f);
  for (int i = 0; i < CLASSES; i += LANES) {
    const vf v = load(p + i);
    total += v >= splat(least) ? v : splat(0.0f);
  }
  return sum(total);
}

// The largest weight whose equals and betters hold `share` of all: the bits of positive floats are
// in order, so 31 halvings find it without sorting.
static inline float nucleus(const float* p, float top, float share) {
  const float wanted = share * mass(p, 0.0f);
  int32_t low = 0, high;
  memcpy(&high, &top, 4);
  while (low < high) {
    const int32_t middle = low + (high - low + 1) / 2;
    float least;
    memcpy(&least, &middle, 4);
    if (mass(p, least) >= wanted)
      low = middle;
    else
      high = middle - 1;
  }
  float least;
  memcpy(&least, &low, 4);
  return least;
}

// Overwrites logits. Temperature 0 takes the likeliest class; `share` 1 leaves none out.
static inline uint8_t choose(float* logits, float temperature, float share, float u) {
  float top = logits[0];
  int best = 0;
  for (int i = 1; i < CLASSES; i++)
    if (logits[i] > top) top = logits[best = i];
  if (temperature <= 0) return static_cast<uint8_t>(best);
  const float inverse = 1.0f / temperature;
  float largest = 0;
  for (int i = 0; i < CLASSES; i += LANES) store(logits + i, expv((load(logits + i) - splat(top)) * splat(inverse)));
  largest = logits[best];
  if (share < 1) {
    const float least = nucleus(logits, largest, share);
    for (int i = 0; i < CLASSES; i += LANES) {
      const vf v = load(logits + i);
      store(logits + i, v >= splat(least) ? v : splat(0.0f));
    }
  }
  float parts[CLASSES / LANES];
  double total = 0;
  for (int i = 0; i < CLASSES / LANES; i++) total += parts[i] = sum(load(logits + i * LANES));
  const double target = u * total;
  double below = 0;
  int part = 0;
  while (part + 1 < CLASSES / LANES && below + parts[part] <= target) below += parts[part++];
  int last = best;
  for (int i = part * LANES; i < CLASSES; i++) {
    if (logits[i] <= 0) continue;
    below += logits[last = i];
    if (below > target) return static_cast<uint8_t>(i);
  }
  return static_cast<uint8_t>(last);  // rounding alone comes here
}

}  // namespace AM_ISA
