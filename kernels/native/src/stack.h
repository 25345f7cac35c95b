// Residual blocks over one width: norm, mixer, norm, feed-forward; one call for all of them.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "audiomamba.h"
#include "linear.h"
#include "recurrence.h"

namespace AM_ISA {

// Everything that a call needs beside weights and states; grows to the largest call, then stays.
struct Scratch {
  Array<float> normed, wide, low, delta, mixed, window;
  Rows rows;
};

struct Block {
  int width = 0, channels = 0, hidden = 0, dt_rank = 0;
  float eps = 0;
  bool selective = false, has_ffn = false;
  Array<float> norm, ffn_norm, rest;
  Linear in, out, x_proj, dt_proj, ffn_in, ffn_out;
  Convolution ahead, conv, ffn_conv;
  SelectiveScan scan;
  TimeInvariant lti;

  Block(const am_block& b, int width, float eps, bool int8)
      : width(width), channels(b.channels), hidden(b.hidden), dt_rank(b.dt_rank), eps(eps),
        selective(b.selective), has_ffn(b.hidden > 0), norm(b.norm, width) {
    if (b.ahead_taps) {
      rest = Array<float>(b.ahead_rest, width);
      Array<float> rested(width);
      for (int c = 0; c < width; c++)
        for (int k = 0; k < b.ahead_taps; k++) rested[c] += rest[c] * b.ahead_weight[c * b.ahead_taps + k];
      ahead = Convolution(b.ahead_weight, rested.get(), width, b.ahead_taps, /*activated=*/false);
    }
    in = Linear(b.in_proj, nullptr, 2 * channels, width, int8);
    conv = Convolution(b.conv_weight, b.conv_bias, channels, b.conv_taps);
    out = Linear(b.out_proj, nullptr, width, channels, int8);
    if (selective) {
      x_proj = Linear(b.x_proj, nullptr, dt_rank + 2 * b.states, channels, int8);
      dt_proj = Linear(b.dt_proj, nullptr, channels, dt_rank, int8);
      scan = SelectiveScan(b.A, b.D, b.dt_bias, channels, b.states);
    } else {
      lti = TimeInvariant(b.A, b.B, b.C, b.D, channels, b.states / 2);
    }
    if (has_ffn) {
      ffn_norm = Array<float>(b.ffn_norm, width);
      ffn_in = Linear(b.ffn_in_proj, nullptr, 2 * hidden, width, int8);
      ffn_out = Linear(b.ffn_out_proj, nullptr, width, hidden, int8);
      if (b.ffn_conv_taps) ffn_conv = Convolution(b.ffn_conv_weight, b.ffn_conv_bias, hidden, b.ffn_conv_taps);
    }
  }

  size_t state_floats() const {
    return ahead.state_floats() + conv.state_floats() + (selective ? scan.state_floats() : lti.state_floats()) +
           ffn_conv.state_floats();
  }

  // stream (M, width), M = sessions * T, is added to in place, after the look-ahead made it late, where
  // there is one; states[s] + offset is this block's part. gains[s] (width), where there are any, scale a
  // session's norms by one and themselves.
  void run(float* stream, int sessions, int T, float* const* states, size_t offset, Scratch& s,
           const float* const* gains = nullptr) const {
    const int M = sessions * T;
    if (ahead.taps) {
      // State counts from what the stream rested at, so that a state of zeros is one at rest.
      for (int m = 0; m < M; m++)
        for (int c = 0; c < width; c += LANES) {
          float* x = stream + static_cast<size_t>(m) * width + c;
          store(x, load(x) - load(rest.get() + c));
        }
      for (int i = 0; i < sessions; i++)
        ahead.run(stream + static_cast<size_t>(i) * T * width, width, T, states[i] + offset, s.window);
    }
    offset += ahead.state_floats();
    rms_norm(stream, norm.get(), M, T, gains, s);
    const int wide = in.padded();
    s.wide.reserve(static_cast<size_t>(M) * wide);
    in.prepare(s.normed.get(), width, M, s.rows);
    in.run(s.rows, M, s.wide.get(), wide);
    float* u = s.wide.get();
    float* z = u + channels;
    for (int i = 0; i < sessions; i++)
      conv.run(u + static_cast<size_t>(i) * T * wide, wide, T, states[i] + offset, s.window);
    const size_t at = offset + conv.state_floats();
    s.mixed.reserve(static_cast<size_t>(M) * channels);
    if (selective) {
      const int bc = x_proj.padded(), ldd = dt_proj.padded(), N = scan.states;
      s.low.reserve(static_cast<size_t>(M) * bc);
      s.delta.reserve(static_cast<size_t>(M) * ldd);
      x_proj.prepare(u, wide, M, s.rows);
      x_proj.run(s.rows, M, s.low.get(), bc);
      dt_proj.prepare(s.low.get(), bc, M, s.rows);
      dt_proj.run(s.rows, M, s.delta.get(), ldd);
      for (int i = 0; i < sessions; i++) {
        const size_t row = static_cast<size_t>(i) * T;
        const float* B = s.low.get() + row * bc + dt_rank;
        scan.run(u + row * wide, wide, s.delta.get() + row * ldd, ldd, z + row * wide, wide, B, B + N, bc, T,
                 states[i] + at, s.mixed.get() + row * channels, channels);
      }
    } else {
      for (int i = 0; i < sessions; i++) {
        const size_t row = static_cast<size_t>(i) * T;
        lti.run(u + row * wide, wide, z + row * wide, wide, T, states[i] + at, s.mixed.get() + row * channels,
                channels);
      }
    }
    out.prepare(s.mixed.get(), channels, M, s.rows);
    out.run(s.rows, M, stream, width, /*add=*/true);
    if (has_ffn) feed_forward(stream, sessions, T, states, at + (selective ? scan.state_floats() : lti.state_floats()), s, gains);
  }

 private:
  void feed_forward(float* stream, int sessions, int T, float* const* states, size_t at, Scratch& s,
                    const float* const* gains) const {
    const int M = sessions * T, wide = ffn_in.padded();
    rms_norm(stream, ffn_norm.get(), M, T, gains, s);
    s.wide.reserve(static_cast<size_t>(M) * wide);
    ffn_in.prepare(s.normed.get(), width, M, s.rows);
    ffn_in.run(s.rows, M, s.wide.get(), wide);
    float* gate = s.wide.get();
    if (ffn_conv.taps)
      for (int i = 0; i < sessions; i++)
        ffn_conv.run(gate + static_cast<size_t>(i) * T * wide, wide, T, states[i] + at, s.window);
    for (int m = 0; m < M; m++) {
      float* g = gate + static_cast<size_t>(m) * wide;
      for (int c = 0; c < hidden; c += LANES) {
        const vf v = load(g + c);
        store(g + c, (ffn_conv.taps ? v : silu(v)) * load(g + hidden + c));
      }
    }
    ffn_out.prepare(gate, wide, M, s.rows);
    ffn_out.run(s.rows, M, stream, width, /*add=*/true);
  }

  void rms_norm(const float* x, const float* weight, int M, int T, const float* const* gains, Scratch& s) const {
    s.normed.reserve(static_cast<size_t>(M) * width);
    normalise(x, weight, width, eps, M, s.normed.get());
    for (int m = 0; m < M && gains; m++) {
      float* y = s.normed.get() + static_cast<size_t>(m) * width;
      for (int c = 0; c < width; c += LANES) store(y + c, load(y + c) * (splat(1.0f) + load(gains[m / T] + c)));
    }
  }

 public:
  static void normalise(const float* x, const float* weight, int width, float eps, int M, float* y) {
    for (int m = 0; m < M; m++, x += width, y += width) {
      const vf scale = splat(1.0f / std::sqrt(sum_of_squares(x, width) / width + eps));
      for (int c = 0; c < width; c += LANES) store(y + c, load(x + c) * scale * load(weight + c));
    }
  }
};

}  // namespace AM_ISA
