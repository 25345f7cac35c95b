// What a layer remembers: the causal convolution, the selective scan and the time-invariant filter.
// One stream at a time, channels in the vector lanes; every state array has the channel last.
#pragma once

#include <algorithm>

#include "memory.h"
#include "vector.h"

namespace AM_ISA {

constexpr int TILE = 8;  // vectors of channels that are advanced together
constexpr int MAX_STATES = 64;

// x (T, ldx) in place: y_t = act(bias + sum_k w_k x_{t-K+1+k}), act silu or none; tail (taps - 1,
// channels).
struct Convolution {
  int channels = 0, taps = 0;
  bool activated = true;
  Array<float> weight;  // (taps, channels), the newest sample's last
  Array<float> bias;

  Convolution() = default;
  Convolution(const float* w, const float* b, int channels, int taps, bool activated = true)
      : channels(channels), taps(taps), activated(activated), weight(static_cast<size_t>(channels) * taps),
        bias(b, channels) {
    for (int c = 0; c < channels; c++)
      for (int k = 0; k < taps; k++) weight[static_cast<size_t>(k) * channels + c] = w[c * taps + k];
  }

  size_t state_floats() const { return static_cast<size_t>(taps > 0 ? taps - 1 : 0) * channels; }

  void run(float* x, int ldx, int T, float* tail, Array<float>& scratch) const {
    const int past = taps - 1;
    scratch.reserve(static_cast<size_t>(past + T) * LANES);
    float* window = scratch.get();
    for (int c = 0; c < channels; c += LANES) {
      for (int k = 0; k < past; k++) store(window + k * LANES, load(tail + static_cast<size_t>(k) * channels + c));
      for (int t = 0; t < T; t++) store(window + (past + t) * LANES, load(x + static_cast<size_t>(t) * ldx + c));
      for (int t = 0; t < T; t++) {
        vf sum = load(bias.get() + c);
        for (int k = 0; k < taps; k++)
          sum += load(weight.get() + static_cast<size_t>(k) * channels + c) * load(window + (t + k) * LANES);
        store(x + static_cast<size_t>(t) * ldx + c, activated ? silu(sum) : sum);
      }
      for (int k = 0; k < past; k++) store(tail + static_cast<size_t>(k) * channels + c, load(window + (T + k) * LANES));
    }
  }
};

// S6 (Gu and Dao, 2023): h = exp(d A) h + (d u) B, y = C h + D u, gated by silu(z).
struct SelectiveScan {
  int channels = 0, states = 0;
  Array<float> A2;  // (states, channels): A log2(e)
  Array<float> skip, bias;

  SelectiveScan() = default;
  // A (channels, states), negative; bias is added to the step before softplus.
  SelectiveScan(const float* A, const float* D, const float* dt_bias, int channels, int states)
      : channels(channels), states(states), A2(static_cast<size_t>(channels) * states), skip(D, channels),
        bias(dt_bias, channels) {
    for (int c = 0; c < channels; c++)
      for (int n = 0; n < states; n++) A2[static_cast<size_t>(n) * channels + c] = A[c * states + n] * LOG2E;
  }

  size_t state_floats() const { return static_cast<size_t>(states) * channels; }

  // u, delta, z, y of T rows; B, C (T, ldbc); h (states, channels).
  void run(const float* u, int ldu, const float* delta, int ldd, const float* z, int ldz, const float* B,
           const float* C, int ldbc, int T, float* h, float* y, int ldy) const {
    const int vectors = channels / LANES;
    for (int v = 0; v < vectors; v += TILE) {
      const int n = std::min(TILE, vectors - v), c = v * LANES;
      if (states == 16)
        tile<16>(u + c, ldu, delta + c, ldd, z + c, ldz, B, C, ldbc, T, h + c, y + c, ldy, c, n);
      else
        tile<0>(u + c, ldu, delta + c, ldd, z + c, ldz, B, C, ldbc, T, h + c, y + c, ldy, c, n);
    }
  }

 private:
  template <int FIXED>
  void tile(const float* u, int ldu, const float* delta, int ldd, const float* z, int ldz, const float* B,
            const float* C, int ldbc, int T, float* h, float* y, int ldy, int c, int vectors) const {
    const int N = FIXED ? FIXED : states;
    vf H[TILE][FIXED ? FIXED : MAX_STATES], A[TILE][FIXED ? FIXED : MAX_STATES];
    for (int n = 0; n < N; n++)
      for (int v = 0; v < vectors; v++) {
        H[v][n] = load(h + static_cast<size_t>(n) * channels + v * LANES);
        A[v][n] = load(A2.get() + static_cast<size_t>(n) * channels + c + v * LANES);
      }
    for (int t = 0; t < T; t++) {
      const float *Bt = B + static_cast<size_t>(t) * ldbc, *Ct = C + static_cast<size_t>(t) * ldbc;
      vf step[TILE], input[TILE], out[TILE];
      // Apart from the loop over states: softplus is a long chain that would expose its latency.
      for (int v = 0; v < vectors; v++) {
        vf ut = load(u + static_cast<size_t>(t) * ldu + v * LANES);
        step[v] = softplus(load(delta + static_cast<size_t>(t) * ldd + v * LANES) + load(bias.get() + c + v * LANES));
        input[v] = step[v] * ut;
        out[v] = load(skip.get() + c + v * LANES) * ut;
      }
      for (int v = 0; v < vectors; v++) {
        vf even = out[v], odd = splat(0.0f);
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) {
          vf next = exp2v(step[v] * A[v][n]) * H[v][n] + input[v] * splat(Bt[n]);
          H[v][n] = next;
          if (n & 1)
            odd += next * splat(Ct[n]);
          else
            even += next * splat(Ct[n]);
        }
        store(y + static_cast<size_t>(t) * ldy + v * LANES,
              (even + odd) * silu(load(z + static_cast<size_t>(t) * ldz + v * LANES)));
      }
    }
    for (int n = 0; n < N; n++)
      for (int v = 0; v < vectors; v++) store(h + static_cast<size_t>(n) * channels + v * LANES, H[v][n]);
  }
};

// S4D: h = A h + B u with complex diagonal A, y = 2 Re(C h) + D u, gated by silu(z). What is kept is
// h / B, so that the input enters as it is; 2 C B then takes it to the output.
struct TimeInvariant {
  int channels = 0, pairs = 0;
  Array<float> A_re, A_im, G_re, G_im;  // (pairs, channels): A discrete, G = 2 C B
  Array<float> skip;

  TimeInvariant() = default;
  // A, B, C (channels, pairs, 2): real and imaginary part last; A and B discretised.
  TimeInvariant(const float* A, const float* B, const float* C, const float* D, int channels, int pairs)
      : channels(channels), pairs(pairs), A_re(size()), A_im(size()), G_re(size()), G_im(size()), skip(D, channels) {
    for (int c = 0; c < channels; c++)
      for (int p = 0; p < pairs; p++) {
        const size_t from = (static_cast<size_t>(c) * pairs + p) * 2, to = static_cast<size_t>(p) * channels + c;
        const double br = B[from], bi = B[from + 1], cr = C[from], ci = C[from + 1];
        A_re[to] = A[from];
        A_im[to] = A[from + 1];
        G_re[to] = static_cast<float>(2 * (cr * br - ci * bi));
        G_im[to] = static_cast<float>(2 * (cr * bi + ci * br));
      }
  }

  size_t state_floats() const { return 2 * size(); }

  // u (T, ldu), z (T, ldz), y (T, ldy); h: real parts (pairs, channels), then imaginary ones.
  void run(const float* u, int ldu, const float* z, int ldz, int T, float* h, float* y, int ldy) const {
    if (T == 1) return step(u, z, h, y);
    for (int c = 0; c < channels; c += LANES) {
      for (int t = 0; t < T; t++)
        store(y + static_cast<size_t>(t) * ldy + c, load(skip.get() + c) * load(u + static_cast<size_t>(t) * ldu + c));
      for (int p = 0; p < pairs; p++) {
        const size_t at = static_cast<size_t>(p) * channels + c;
        const vf ar = load(A_re.get() + at), ai = load(A_im.get() + at), gr = load(G_re.get() + at),
                 gi = load(G_im.get() + at);
        vf hr = load(h + at), hi = load(h + size() + at);
        for (int t = 0; t < T; t++) {
          float* to = y + static_cast<size_t>(t) * ldy + c;
          store(to, turn(load(u + static_cast<size_t>(t) * ldu + c), ar, ai, gr, gi, hr, hi, load(to)));
        }
        store(h + at, hr);
        store(h + size() + at, hi);
      }
      for (int t = 0; t < T; t++) {
        float* to = y + static_cast<size_t>(t) * ldy + c;
        store(to, load(to) * silu(load(z + static_cast<size_t>(t) * ldz + c)));
      }
    }
  }

 private:
  size_t size() const { return static_cast<size_t>(pairs) * channels; }

  // One sample of one pair: its state advances, its part is added to y.
  AM_INLINE vf turn(vf u, vf ar, vf ai, vf gr, vf gi, vf& hr, vf& hi, vf y) {
    const vf next = u + ar * hr - ai * hi;
    hi = ar * hi + ai * hr;
    hr = next;
    return y + gr * hr - gi * hi;
  }

  // One sample: sums stay in registers, of some vectors of channels at once, as each is a chain. The
  // order of additions is that of several samples, so the bits are the same.
  void step(const float* u, const float* z, float* h, float* y) const {
    const int vectors = channels / LANES;
    int v = 0;
    for (; v + 4 <= vectors; v += 4) step_tile<4>(u, z, h, y, v * LANES);
    for (; v < vectors; v++) step_tile<1>(u, z, h, y, v * LANES);
  }

  template <int W>
  AM_INLINE_MEMBER void step_tile(const float* u, const float* z, float* h, float* y, int c) const {
    vf in[W], out[W];
#pragma GCC unroll 4
    for (int w = 0; w < W; w++) {
      in[w] = load(u + c + w * LANES);
      out[w] = load(skip.get() + c + w * LANES) * in[w];
    }
    for (int p = 0; p < pairs; p++) {
#pragma GCC unroll 4
      for (int w = 0; w < W; w++) {
        const size_t at = static_cast<size_t>(p) * channels + c + w * LANES;
        vf hr = load(h + at), hi = load(h + size() + at);
        out[w] = turn(in[w], load(A_re.get() + at), load(A_im.get() + at), load(G_re.get() + at), load(G_im.get() + at),
                      hr, hi, out[w]);
        store(h + at, hr);
        store(h + size() + at, hi);
      }
    }
#pragma GCC unroll 4
    for (int w = 0; w < W; w++) store(y + c + w * LANES, out[w] * silu(load(z + c + w * LANES)));
  }
};

}  // namespace AM_ISA
