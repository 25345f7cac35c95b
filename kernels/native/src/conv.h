// The causal convolution over whole sequences, forward and backward: audiomamba/kernels/conv/README.md
// has the equation. Channels in the lanes, PIECE steps at a time behind the last taps - 1 inputs.
#pragma once

#include <algorithm>
#include <vector>

#include "sequence.h"

namespace AM_ISA {

template <int FIXED>
class Conv {
 public:
  explicit Conv(const am_conv& call)
      : s_(call), K(FIXED ? FIXED : call.taps), T(call.steps), tiles_((call.channels + LANES - 1) / LANES) {}

  int64_t items() const { return s_.rows * tiles_; }

  // Tiles `from` to `to` of all rows' tiles, row after row. last: of the shape of the first state.
  void forward(int64_t from, int64_t to, const am_sequence& out, const am_sequence& last) const {
    std::vector<vf> weights(K), inputs(K - 1 + PIECE);
    std::vector<int> reaches(K - 1 + PIECE);
    vf *w = weights.data(), *x = inputs.data();
    int* reach = reaches.data();
    for (int64_t item = from; item < to; item++) {
      Window at = begin(item, w, x);
      const vf bias = offset(at);
      int age = K - 1;
      for (; at.first < T; at.first += PIECE) {
        const bool whole = take(at, x, reach, age);
        vf y[PIECE];
        for (int k = 0; k < at.length; k++) {
          y[k] = whole ? weighted(w, x + k, bias) : weighted(w, x + k, bias, reach[K - 1 + k]);
          if (s_.silu) y[k] *= sigmoid(y[k]);
        }
        write(y, out, at);
        std::copy_n(x + at.length, K - 1, x);
      }
      std::fill_n(x, std::max(0, K - 2 - age), splat(0.0f));
      write(x, last, state(at));
    }
  }

  // Gradients of the weights and the bias are a row's own: (rows, channels, taps) and (rows, channels).
  void backward(int64_t from, int64_t to, const am_conv_gradients& d) const {
    std::vector<vf> vectors(4 * K - 2 + 2 * PIECE);
    std::vector<int> reaches(K - 1 + PIECE);
    vf *w = vectors.data(), *dw = w + K, *x = dw + K, *dz = x + K - 1 + PIECE;
    int* reach = reaches.data();  // how far back the output of the same step of dz has seen
    for (int64_t item = from; item < to; item++) {
      Window at = begin(item, w, x);
      const vf bias = offset(at);
      vf dbias = splat(0.0f);
      std::fill_n(dw, K, splat(0.0f));
      std::fill_n(dz, K - 1, splat(0.0f));
      std::fill_n(reach, K - 1, K - 1);
      int age = K - 1;
      bool before = true;  // that no sequence started in the last taps - 1 steps
      for (; at.first < T; at.first += PIECE) {
        const bool whole = take(at, x, reach, age);
        read(dz + K - 1, d.dy, at);
        for (int k = 0; s_.silu && k < at.length; k++) {
          const vf z = whole ? weighted(w, x + k, bias) : weighted(w, x + k, bias, reach[K - 1 + k]);
          const vf slope = sigmoid(z);
          dz[K - 1 + k] *= slope * (splat(1.0f) + z * (splat(1.0f) - slope));
        }
        // Of this piece alone at first: a sum over all steps in one register would round too often.
        vf sum = splat(0.0f);
        for (int k = 0; k < at.length; k++) sum += dz[K - 1 + k];
        dbias += sum;
        add_products(dw, x, dz + K - 1, reach + K - 1, at.length, whole);
        vf dx[PIECE];
        scattered(w, dz + K - 1, reach + K - 1, at.length, whole && before, dx);
        put(dx, d, at, at.first, at.length);
        std::copy_n(x + at.length, K - 1, x);
        std::copy_n(dz + at.length, K - 1, dz);
        std::copy_n(reach + at.length, K - 1, reach);
        before = true;
        for (int k = 0; k < K - 1; k++) before = before && reach[k] == K - 1;
      }
      // The last inputs have no more outputs behind them, but are the last state.
      for (int64_t done = 0; done < K - 1; done += PIECE) {
        const int length = static_cast<int>(std::min<int64_t>(PIECE, K - 1 - done));
        std::fill_n(dz + K - 1, length, splat(0.0f));
        std::fill_n(reach + K - 1, length, K - 1);
        vf dx[PIECE], dlast[PIECE];
        scattered(w, dz + K - 1, reach + K - 1, length, false, dx);
        if (d.dlast.at) {
          Window behind = state(at);
          behind.first = done, behind.length = length;
          read(dlast, d.dlast, behind);
          for (int k = 0; k < length; k++)
            if (K - 2 - done - k <= age) dx[k] += dlast[k];
        }
        put(dx, d, at, T + done, length);
        std::copy_n(dz + length, K - 1, dz);
        std::copy_n(reach + length, K - 1, reach);
      }
      scatter(dw, d.dweight + (at.row * s_.channels + at.c) * K, K, at.width);
      scatter(&dbias, d.dbias + at.row * s_.channels + at.c, 1, at.width);
    }
  }

 private:
  // A tile's weights, and the inputs before the first.
  Window begin(int64_t item, vf* w, vf* x) const {
    const int64_t c = item % tiles_ * LANES;
    const int width = static_cast<int>(std::min<int64_t>(LANES, s_.channels - c));
    const Window at = {item / tiles_, 0, T, c, 0, width, s_.reverse != 0, PIECE, 0};
    gather(w, s_.weight + c * K, K, width);
    if (s_.initial.at)
      read(x, s_.initial, state(at));
    else
      std::fill_n(x, K - 1, splat(0.0f));
    return at;
  }

  vf offset(const Window& at) const {
    vf bias = splat(0.0f);
    if (s_.bias) gather(&bias, s_.bias + at.c, 1, at.width);
    return bias;
  }

  // The same channels of a tensor over (rows, taps - 1, channels), oldest first.
  Window state(const Window& at) const { return {at.row, 0, K - 1, at.c, K - 1, at.width, false, 0, 0}; }

  // The inputs of a piece, and how many of those before each output it sees; whether that is all.
  bool take(Window& at, vf* x, int* reach, int& age) const {
    at.length = static_cast<int>(std::min<int64_t>(PIECE, T - at.first));
    read(x + K - 1, s_.x, at);
    bool whole = true;
    for (int k = 0; k < at.length; k++) {
      const bool start = s_.resets && s_.resets[at.row * T + at.time(k)];
      age = start ? 0 : std::min(age + 1, K - 1);
      reach[K - 1 + k] = age;
      whole = whole && age == K - 1;
    }
    return whole;
  }

  // Taps that see past a start are left out, not multiplied by zero: NaN before it stays there.
  AM_INLINE_MEMBER vf weighted(const vf* w, const vf* x, vf bias, int reach) const {
    for (int k = K - 1 - reach; k < K; k++) bias += w[k] * x[k];
    return bias;
  }
  AM_INLINE_MEMBER vf weighted(const vf* w, const vf* x, vf bias) const {
#pragma GCC unroll 4
    for (int k = 0; k < K; k++) bias += w[k] * x[k];
    return bias;
  }

  void add_products(vf* dw, const vf* x, const vf* dz, const int* reach, int length, bool whole) const {
    if (!whole) {
      for (int i = 0; i < length; i++)
        for (int k = K - 1 - reach[i]; k < K; k++) dw[k] += dz[i] * x[i + k];
      return;
    }
    int k = 0;
    for (; k + 4 <= K; k += 4) {
      vf sums[4] = {};
      for (int i = 0; i < length; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) sums[j] += dz[i] * x[i + k + j];
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) dw[k + j] += sums[j];
    }
    for (; k < K; k++) {
      vf sum = splat(0.0f);
      for (int i = 0; i < length; i++) sum += dz[i] * x[i + k];
      dw[k] += sum;
    }
  }

  // Gradients of the inputs taps - 1 steps before a piece of outputs: those are all there by then.
  AM_INLINE_MEMBER void scattered(const vf* w, const vf* dz, const int* reach, int length, bool whole, vf* dx) const {
    for (int i = 0; i < length; i++) {
      vf sum = splat(0.0f);
      if (whole) {
#pragma GCC unroll 4
        for (int k = 0; k < K; k++) sum += w[k] * dz[i - k];
      } else {
        for (int k = 0; k < K; k++)
          if (K - 1 - k <= reach[i - k]) sum += w[k] * dz[i - k];
      }
      dx[i] = sum;
    }
  }

  // Writes them: the first taps - 1 are those of the first state.
  void put(const vf* dx, const am_conv_gradients& d, Window at, int64_t first, int length) const {
    const int early = static_cast<int>(std::max<int64_t>(0, std::min<int64_t>(length, K - 1 - first)));
    if (early && d.dinitial.at) {
      Window behind = state(at);
      behind.first = first, behind.length = early;
      write(dx, d.dinitial, behind);
    }
    if (early == length) return;
    at.first = first + early - (K - 1), at.length = length - early;
    write(dx + early, d.dx, at);
  }

  const am_conv& s_;
  const int K;
  const int64_t T, tiles_;
};

}  // namespace AM_ISA
