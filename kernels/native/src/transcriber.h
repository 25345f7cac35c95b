// The whole way from log-mel features to log-probabilities of word pieces, and that nobody will speak.
#pragma once

#include <cmath>
#include <vector>

#include "audiomamba.h"
#include "head.h"
#include "model.h"
#include "stack.h"

namespace AM_ISA {

class Transcriber : public Model {
 public:
  explicit Transcriber(const am_transcriber& t)
      : bins_(t.bins), c1_(t.channels[0]), c2_(t.channels[1]), width_(t.width), eps_(t.eps), int8_(t.int8),
        mean_(t.mel_mean, t.bins), scale_(t.mel_scale, t.bins), first_(t.first_weight, static_cast<size_t>(c1_) * 9),
        first_bias_(t.first_bias, c1_),
        head_(t.norm, t.out_weight, t.out_bias, t.vocabulary, t.width, t.eps, t.int8) {
    second_ = Linear(t.second_weight, t.second_bias, c2_, c1_ * 9, t.int8);
    project_ = Linear(t.project_weight, t.project_bias, width_, c2_ * (bins_ / 4), t.int8);
    head_.ask(t.ends_weight, t.ends_bias, t.ends);
    state_floats_ = subsample_floats();
    blocks_.reserve(t.blocks);
    for (int i = 0; t.block && i < t.blocks; i++) add(t.block[i]);
  }

  // False where all blocks are there.
  bool add(const am_block& block) {
    if (blocks_.size() == blocks_.capacity()) return false;
    blocks_.emplace_back(block, width_, eps_, int8_);
    offsets_.push_back(state_floats_);
    state_floats_ += blocks_.back().state_floats();
    return true;
  }

  size_t state_floats() const override { return state_floats_; }

  // May run in several threads at once, on different states: what a call needs beside weights and
  // states belongs to its thread.
  void run(const float* features, int sessions, int frames, float* const* states, float* log_probs) const {
    static thread_local Working working;
    const int M = sessions * frames;
    if (M == 0) return;
    Array<float>& stream = working.stream;
    Scratch& scratch = working.scratch;
    stream.reserve(static_cast<size_t>(M) * project_.padded());
    for (int i = 0; i < sessions; i++)
      subsample(features + static_cast<size_t>(i) * 4 * frames * bins_, frames, states[i],
                stream.get() + static_cast<size_t>(i) * frames * width_, working);
    for (size_t b = 0; b < blocks_.size(); b++)
      blocks_[b].run(stream.get(), sessions, frames, states, offsets_[b], scratch);
    head_.run(stream.get(), M, scratch, log_probs);
  }

 private:
  struct Working {
    Scratch scratch;
    Array<float> stream, lines, hidden, patches, second_out, flat;
  };

  size_t subsample_floats() const { return bins_ + static_cast<size_t>(c1_) * (bins_ / 2); }

  // Two causal 3x3 convolutions of stride 2 and a linear map, a frame (four feature frames) at a
  // time. State: the last feature frame, then the last output of the first convolution (c1, bins/2).
  void subsample(const float* features, int frames, float* state, float* out, Working& w) const {
    const int half = bins_ / 2, quarter = bins_ / 4;
    w.lines.reserve(static_cast<size_t>(5) * (bins_ + 2));
    w.hidden.reserve(static_cast<size_t>(3) * c1_ * (half + 2));
    w.patches.reserve(static_cast<size_t>(quarter) * c1_ * 9);
    w.second_out.reserve(static_cast<size_t>(quarter) * second_.padded());
    w.flat.reserve(static_cast<size_t>(c2_) * quarter);
    float *last_line = state, *last_hidden = state + bins_;
    for (int t = 0; t < frames; t++, features += 4 * bins_, out += width_) {
      // Lines and rows are kept with a zero on either side, the padding along frequency.
      float* lines = w.lines.get();
      for (int j = 0; j < 5; j++) {
        float* line = lines + j * (bins_ + 2);
        line[0] = line[bins_ + 1] = 0;
        for (int f = 0; f < bins_; f++)
          line[1 + f] = j == 0 ? last_line[f] : (features[(j - 1) * bins_ + f] - mean_[f]) * scale_[f];
      }
      for (int f = 0; f < bins_; f++) last_line[f] = lines[4 * (bins_ + 2) + 1 + f];
      float* hidden = w.hidden.get();
      const int row = half + 2;
      for (int c = 0; c < c1_; c++) {
        float* rows = hidden + static_cast<size_t>(c) * 3 * row;
        memset(rows, 0, 3 * row * sizeof(float));
        memcpy(rows + 1, last_hidden + static_cast<size_t>(c) * half, half * sizeof(float));
        for (int j = 0; j < 2; j++) first_convolution(lines + 2 * j * (bins_ + 2), c, rows + (1 + j) * row + 1);
        memcpy(last_hidden + static_cast<size_t>(c) * half, rows + 2 * row + 1, half * sizeof(float));
      }
      for (int f = 0; f < quarter; f++) {
        float* patch = w.patches.get() + static_cast<size_t>(f) * c1_ * 9;
        for (int c = 0; c < c1_; c++)
          for (int j = 0; j < 3; j++)
            memcpy(patch + c * 9 + j * 3, hidden + (static_cast<size_t>(c) * 3 + j) * row + 2 * f, 3 * sizeof(float));
      }
      second_.prepare(w.patches.get(), c1_ * 9, quarter, w.scratch.rows);
      second_.run(w.scratch.rows, quarter, w.second_out.get(), second_.padded());
      for (int f = 0; f < quarter; f++)
        for (int c = 0; c < c2_; c++)
          w.flat[static_cast<size_t>(c) * quarter + f] = silu1(w.second_out[static_cast<size_t>(f) * second_.padded() + c]);
      project_.prepare(w.flat.get(), c2_ * quarter, 1, w.scratch.rows);
      project_.run(w.scratch.rows, 1, out, width_);
    }
  }

  void first_convolution(const float* lines, int channel, float* out) const {
    const float* w = first_.get() + channel * 9;
    const int line = bins_ + 2;
    for (int f = 0; f < bins_ / 2; f++) {
      float s = first_bias_[channel];
      for (int j = 0; j < 3; j++)
        for (int k = 0; k < 3; k++) s += w[j * 3 + k] * lines[j * line + 2 * f + k];
      out[f] = s;
    }
    for (int f = 0; f < bins_ / 2; f++) out[f] = silu1(out[f]);
  }

  static float silu1(float x) { return x / (1.0f + std::exp(-x)); }

  int bins_, c1_, c2_, width_;
  float eps_;
  bool int8_;
  Array<float> mean_, scale_, first_, first_bias_;
  Linear second_, project_;
  Head head_;
  std::vector<Block> blocks_;
  std::vector<size_t> offsets_;
  size_t state_floats_ = 0;
};

}  // namespace AM_ISA
