// The selective scan over whole sequences, forward and backward: audiomamba/kernels/scan/README.md has
// the equations. Sixteen channels or fewer at a time in the lanes, their states in registers or close by.
//
// The forward keeps the states before every SEGMENT-th step. The backward goes from the last of these
// segments to the first and makes a segment's states and decays anew from the kept one. Gradients of B
// and C are sums over channels: a segment is walked for one tile of channels after the other, lanes
// are added once at its end, so a result does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "audiomamba.h"
#include "vector.h"

namespace AM_ISA {

constexpr int SEGMENT = 64;  // op.CHECKPOINT_STEPS
constexpr int MOST_STATES = 256;

// e^x, more exactly than expv: the product with log2(e) is not rounded (it is fused, in two parts), and
// the polynomial has a degree more. A state is a product of hundreds of these.
AM_INLINE vf exact_exp(vf x) {
  const vf magic = splat(12582912.0f);
  x = vmin(vmax(x, splat(-87.0f)), splat(87.0f));
  vf t = x * splat(LOG2E) + magic;
  vi whole = (vi)t << 23;
  vf n = t - magic;
  vf r = x * splat(LOG2E) - n;
  r = x * splat(1.92596299e-8f) + r;
  vf p = splat(1.53533619e-4f);
  p = p * r + splat(1.33988744e-3f);
  p = p * r + splat(9.61843736e-3f);
  p = p * r + splat(5.55033247e-2f);
  p = p * r + splat(2.40226479e-1f);
  p = p * r + splat(6.93147203e-1f);
  p = p * r + splat(1.0f);
  return (vf)((vi)p + whole);
}

AM_INLINE vf sigmoid(vf x) { return splat(1.0f) / (splat(1.0f) + exact_exp(-x)); }

AM_INLINE vf exact_softplus(vf x) {
  return vmax(x, splat(0.0f)) + log1p01(exact_exp(x < splat(0.0f) ? x : -x));
}

template <int FIXED>
class Scan {
 public:
  explicit Scan(const am_scan& call)
      : s_(call), N(FIXED ? FIXED : call.states), T(call.steps), D(call.channels), E(D / call.groups),
        segments_((T + SEGMENT - 1) / SEGMENT) {}

  // Tiles `from` to `to` of all rows' tiles, row after row. out as u, last (rows, channels, states).
  void forward(int64_t from, int64_t to, float* out, float* last) const {
    vf H[SIZE], A[SIZE];
    Steps steps;
    for (int64_t item = from; item < to; item++) {
      const int64_t row = item / (D / LANES), c = item % (D / LANES) * LANES;
      get(A, s_.A + c * N);
      begin(H, row, c);
      for (int64_t segment = 0; segment < segments_; segment++) {
        if (s_.checkpoints) put(H, s_.checkpoints + ((row * segments_ + segment) * D + c) * N);
        const int length = take(steps, row, c, segment);
        for (int k = 0; k < length; k++) {
          vf y = advance(H, A, steps, k, c);
          if (s_.z) {
          const vf gate = load(s_.z + steps.at[k]);
          y *= gate * sigmoid(gate);
        }
          store(out + steps.at[k], y);
        }
      }
      put(H, last + (row * D + c) * N);
    }
  }

  // Rows `from` to `to`. Gradients of A, D and the bias are a row's own: (rows, channels, states) and
  // (rows, channels). dlast and dinitial, as the states, and what belongs to an absent input, may be NULL.
  void backward(int64_t from, int64_t to, const am_scan_gradients& d) const {
    std::vector<float> carries(static_cast<size_t>(D) * N);  // (tiles, states, lanes)
    std::vector<vf> memory(static_cast<size_t>(SEGMENT) * N * 4 + N);
    vf *before = memory.data(), *decays = before + SEGMENT * N, *dB = decays + SEGMENT * N, *dC = dB + SEGMENT * N;
    for (int64_t row = from; row < to; row++) {
      for (int64_t c = 0; c < D; c += LANES) {
        vf carry[SIZE];
        if (d.dlast)
          get(carry, d.dlast + (row * D + c) * N);
        else
          std::fill_n(carry, N, splat(0.0f));
        for (int n = 0; n < N; n++) store(carries.data() + c * N + n * LANES, carry[n]);
      }
      for (int64_t segment = segments_ - 1; segment >= 0; segment--)
        for (int64_t group = 0; group < s_.groups; group++) {
          std::fill_n(dB, 2 * SEGMENT * N, splat(0.0f));
          for (int64_t c = group * E; c < (group + 1) * E; c += LANES)
            tile(d, row, segment, c, carries.data() + c * N, before, decays, dB, dC);
          const int length = static_cast<int>(std::min<int64_t>(SEGMENT, T - segment * SEGMENT));
          for (int k = 0; k < length; k++) {
            const int64_t at = ((row * T + time(segment * SEGMENT + k)) * s_.groups + group) * N;
            for (int n = 0; n < N; n++) {
              d.dB[at + n] = sum(dB[k * N + n]);
              d.dC[at + n] = sum(dC[k * N + n]);
            }
          }
        }
      if (!d.dinitial) continue;
      for (int64_t c = 0; c < D; c += LANES) {
        vf carry[SIZE];
        for (int n = 0; n < N; n++) carry[n] = load(carries.data() + c * N + n * LANES);
        put(carry, d.dinitial + (row * D + c) * N);
      }
    }
  }

 private:
  static constexpr int SIZE = FIXED ? FIXED : MOST_STATES;

  // A segment's steps of one tile, in the order of the recurrence.
  struct Steps {
    int64_t at[SEGMENT];  // where a step's channels lie in (rows, steps, channels)
    int64_t weights[SEGMENT];  // and its states in (rows, steps, groups, states)
    bool start[SEGMENT];
    vf u[SEGMENT], raw[SEGMENT], dt[SEGMENT];
  };

  int64_t time(int64_t k) const { return s_.reverse ? T - 1 - k : k; }

  int take(Steps& steps, int64_t row, int64_t c, int64_t segment) const {
    const int length = static_cast<int>(std::min<int64_t>(SEGMENT, T - segment * SEGMENT));
    const vf bias = s_.delta_bias ? load(s_.delta_bias + c) : splat(0.0f);
    for (int k = 0; k < length; k++) {
      const int64_t t = row * T + time(segment * SEGMENT + k);
      steps.at[k] = t * D + c;
      steps.weights[k] = (t * s_.groups + c / E) * N;
      steps.start[k] = s_.resets && s_.resets[t];
      steps.u[k] = load(s_.u + steps.at[k]);
      steps.raw[k] = load(s_.delta + steps.at[k]) + bias;
      steps.dt[k] = s_.softplus ? exact_softplus(steps.raw[k]) : steps.raw[k];
    }
    return length;
  }

  // One step: the states advance; y before the gate.
  AM_INLINE_MEMBER vf advance(vf* H, const vf* A, const Steps& steps, int k, int64_t c) const {
    const float *b = s_.B + steps.weights[k], *w = s_.C + steps.weights[k];
    const vf dt = steps.dt[k], x = dt * steps.u[k];
    if (steps.start[k]) std::fill_n(H, N, splat(0.0f));
    vf even = s_.D ? load(s_.D + c) * steps.u[k] : splat(0.0f), odd = splat(0.0f);
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) {
      H[n] = exact_exp(dt * A[n]) * H[n] + x * splat(b[n]);
      (n & 1 ? odd : even) += H[n] * splat(w[n]);
    }
    return even + odd;
  }

  void tile(const am_scan_gradients& d, int64_t row, int64_t segment, int64_t c, float* carries, vf* before,
            vf* decays, vf* dB, vf* dC) const {
    vf H[SIZE], A[SIZE], dA[SIZE], carry[SIZE], y[SEGMENT];
    Steps steps;
    get(A, s_.A + c * N);
    get(H, s_.checkpoints + ((row * segments_ + segment) * D + c) * N);
    const int length = take(steps, row, c, segment);
    const vf skip = s_.D ? load(s_.D + c) : splat(0.0f);
    for (int k = 0; k < length; k++) {
      const float *b = s_.B + steps.weights[k], *w = s_.C + steps.weights[k];
      const vf dt = steps.dt[k], x = dt * steps.u[k];
      if (steps.start[k]) std::fill_n(H, N, splat(0.0f));
      vf out = skip * steps.u[k];
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) {
        const vf decay = exact_exp(dt * A[n]);
        decays[k * N + n] = decay;
        before[k * N + n] = H[n];
        H[n] = decay * H[n] + x * splat(b[n]);
        out += H[n] * splat(w[n]);
      }
      y[k] = out;
    }
    vf dskip = splat(0.0f), dbias = splat(0.0f);
    for (int n = 0; n < N; n++) {
      carry[n] = load(carries + n * LANES);
      dA[n] = splat(0.0f);
    }
    for (int k = length - 1; k >= 0; k--) {
      const float *b = s_.B + steps.weights[k], *w = s_.C + steps.weights[k];
      const vf dt = steps.dt[k], u = steps.u[k], x = dt * u;
      vf dy = d.dout ? load(d.dout + steps.at[k]) : splat(0.0f);
      if (s_.z) {
        const vf gate = load(s_.z + steps.at[k]), slope = sigmoid(gate);
        store(d.dz + steps.at[k], dy * y[k] * slope * (splat(1.0f) + gate * (splat(1.0f) - slope)));
        dy *= gate * slope;
      }
      vf dx = splat(0.0f), ddt = splat(0.0f);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) {
        const vf decay = decays[k * N + n], old = before[k * N + n];
        const vf g = carry[n] + dy * splat(w[n]);  // of the state after the step
        dC[k * N + n] += dy * (decay * old + x * splat(b[n]));
        dB[k * N + n] += g * x;
        dx += g * splat(b[n]);
        const vf kept = decay * g, q = kept * old;  // q: of the logarithm of the decay
        dA[n] += q * dt;
        ddt += q * A[n];
        carry[n] = kept;
      }
      if (steps.start[k]) std::fill_n(carry, N, splat(0.0f));
      ddt += dx * u;
      if (s_.softplus) ddt *= sigmoid(steps.raw[k]);
      dbias += ddt;
      dskip += dy * u;
      store(d.ddelta + steps.at[k], ddt);
      store(d.du + steps.at[k], dx * dt + dy * skip);
    }
    for (int n = 0; n < N; n++) store(carries + n * LANES, carry[n]);
    float* sums = d.dA + (row * D + c) * N;
    for (int n = 0; n < N; n++)
      for (int lane = 0; lane < LANES; lane++) sums[lane * N + n] += dA[n][lane];
    store(d.dD + row * D + c, load(d.dD + row * D + c) + dskip);
    store(d.dbias + row * D + c, load(d.dbias + row * D + c) + dbias);
  }

  void begin(vf* H, int64_t row, int64_t c) const {
    if (s_.initial)
      get(H, s_.initial + (row * D + c) * N);
    else
      std::fill_n(H, N, splat(0.0f));
  }

  // Between (lanes, states) in memory and a vector a state.
  void get(vf* to, const float* from) const {
    for (int n = 0; n < N; n++)
      for (int lane = 0; lane < LANES; lane++) to[n][lane] = from[lane * N + n];
  }
  void put(const vf* from, float* to) const {
    for (int n = 0; n < N; n++)
      for (int lane = 0; lane < LANES; lane++) to[lane * N + n] = from[n][lane];
  }

  const am_scan& s_;
  const int N;
  const int64_t T, D, E, segments_;
};

}  // namespace AM_ISA
