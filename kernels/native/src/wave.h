// The multi-rate network over mu-law samples, a sample of every stream at a time.
//
// State of a stream: its position modulo the period, its condition, then from the fastest rate
// inwards: the blocks before the pool, frames waiting for their group, what lies ahead of this
// group, the slower rates, the blocks after the pool.
#pragma once

#include <cstdint>
#include <vector>

#include "audiomamba.h"
#include "model.h"
#include "sampling.h"
#include "stack.h"

namespace AM_ISA {

class Wave : public Model {
 public:
  explicit Wave(const am_wave& w)
      : width_(w.rate[0].width), condition_(w.condition), eps_(w.eps),
        embedding_(w.embedding, static_cast<size_t>(CLASSES) * w.rate[0].width), norm_(w.norm, w.rate[0].width) {
    head_ = Linear(w.head_weight, w.head_bias, CLASSES, width_, w.int8);
    size_t at = 1 + condition_, column = width_;
    rates_.reserve(w.rates);
    for (int i = 0; i < w.rates; i++) {
      const am_rate& r = w.rate[i];
      rates_.emplace_back();
      Rate& rate = rates_.back();
      rate.width = r.width;
      rate.pool = i + 1 < w.rates ? r.pool : 0;
      add_blocks(rate.down, r.down, r, w, at, column);
      if (!rate.pool) continue;
      period_ *= rate.pool;
      const int group = rate.pool * rate.width, slower = w.rate[i + 1].width;
      rate.shrink = Linear(r.shrink_weight, r.shrink_bias, slower, group, w.int8);
      rate.grow = Linear(r.grow_weight, r.grow_bias, group, slower, w.int8);
      rate.waiting = at;
      rate.ahead = at + group;
      at += 2 * static_cast<size_t>(group);
    }
    for (int i = w.rates - 2; i >= 0; i--) add_blocks(rates_[i].up, w.rate[i].up, w.rate[i], w, at, column);
    state_floats_ = at;
  }

  size_t state_floats() const override { return state_floats_; }

  // codes (streams, samples); logits (streams, samples, 256), or null where only the state matters.
  void feed(const uint8_t* codes, int streams, int samples, float* const* states, float* logits) {
    logits_.reserve(static_cast<size_t>(streams) * CLASSES);
    codes_.resize(streams);
    for (int t = 0; t < samples; t++) {
      for (int m = 0; m < streams; m++) codes_[m] = codes[static_cast<size_t>(m) * samples + t];
      step(codes_.data(), streams, states, logits != nullptr);
      for (int m = 0; m < streams && logits; m++)
        memcpy(logits + (static_cast<size_t>(m) * samples + t) * CLASSES, logits_.get() + static_cast<size_t>(m) * CLASSES,
               CLASSES * sizeof(float));
    }
  }

  // Draws `samples` classes of each stream, last (streams) being the class before and after; the
  // first of them has the index `first` in its stream. With guidance other than 1 there are as many
  // states again, of the same streams without a condition.
  void draw(const am_sampling& how, uint8_t* last, int streams, int samples, float* const* states, const uint64_t* seeds,
            const uint64_t* first, uint8_t* out) {
    const bool guided = how.guidance != 1.0f;
    const int rows = guided ? 2 * streams : streams;
    logits_.reserve(static_cast<size_t>(rows) * CLASSES);
    codes_.resize(rows);
    for (int t = 0; t < samples; t++) {
      for (int m = 0; m < rows; m++) codes_[m] = last[m % streams];
      step(codes_.data(), rows, states, true);
      for (int m = 0; m < streams; m++) {
        float* own = logits_.get() + static_cast<size_t>(m) * CLASSES;
        if (guided) guide(own, logits_.get() + static_cast<size_t>(streams + m) * CLASSES, how.guidance);
        last[m] = choose(own, how.temperature, how.top_p, uniform(seeds[m], first[m] + t));
        out[static_cast<size_t>(m) * samples + t] = last[m];
      }
    }
  }

 private:
  struct Placed {
    Block block;
    size_t state, column;
  };

  struct Rate {
    int width = 0, pool = 0;
    std::vector<Placed> down, up;
    Linear shrink, grow;
    size_t waiting = 0, ahead = 0;
    // Of one call: the streams, their states, the groups that became whole.
    Array<float> stream, groups, coming;
    std::vector<float*> states;
  };

  void add_blocks(std::vector<Placed>& to, const am_block* blocks, const am_rate& r, const am_wave& w, size_t& at,
                  size_t& column) const {
    to.reserve(r.blocks);
    for (int i = 0; i < r.blocks; i++) {
      to.push_back({Block(blocks[i], r.width, w.eps, w.int8), at, column});
      at += to.back().block.state_floats();
      column += r.width;
    }
  }

  static void guide(float* logits, const float* free, float guidance) {
    for (int i = 0; i < CLASSES; i += LANES)
      store(logits + i, load(free + i) + splat(guidance) * (load(logits + i) - load(free + i)));
  }

  // One sample of every stream; logits_ (streams, 256) where they are wanted.
  void step(const uint8_t* codes, int streams, float* const* states, bool wanted) {
    Rate& outer = rates_[0];
    outer.stream.reserve(static_cast<size_t>(streams) * width_);
    outer.states.assign(states, states + streams);
    for (int m = 0; m < streams; m++) {
      const float* from = embedding_.get() + static_cast<size_t>(codes[m]) * width_;
      float* to = outer.stream.get() + static_cast<size_t>(m) * width_;
      for (int c = 0; c < width_; c++) to[c] = from[c] + (condition_ ? states[m][1 + c] : 0.0f);
    }
    run(0, streams, 1);
    for (int m = 0; m < streams; m++) {
      const int next = static_cast<int>(states[m][0]) + 1;
      states[m][0] = static_cast<float>(next == period_ ? 0 : next);
    }
    if (!wanted) return;
    scratch_.normed.reserve(static_cast<size_t>(streams) * width_);
    Block::normalise(outer.stream.get(), norm_.get(), width_, eps_, streams, scratch_.normed.get());
    head_.prepare(scratch_.normed.get(), width_, streams, scratch_.rows);
    head_.run(scratch_.rows, streams, logits_.get(), CLASSES);
  }

  // A frame of each of `rows` streams through rate `depth`, in place; `samples` are one of its frames.
  void run(int depth, int rows, int samples) {
    Rate& r = rates_[depth];
    through(r.down, r, rows);
    if (!r.pool) return;
    Rate& slower = rates_[depth + 1];
    slower.states.clear();
    for (int m = 0; m < rows; m++) {
      float* state = r.states[m];
      float* stream = r.stream.get() + static_cast<size_t>(m) * r.width;
      const int phase = static_cast<int>(state[0]) / samples % r.pool;
      memcpy(state + r.waiting + static_cast<size_t>(phase) * r.width, stream, r.width * sizeof(float));
      const float* ahead = state + r.ahead + static_cast<size_t>(phase) * r.width;
      for (int c = 0; c < r.width; c++) stream[c] += ahead[c];
      if (phase == r.pool - 1) slower.states.push_back(state);
    }
    if (const int whole = static_cast<int>(slower.states.size())) {
      const int group = r.pool * r.width;
      r.groups.reserve(static_cast<size_t>(whole) * group);
      r.coming.reserve(static_cast<size_t>(whole) * group);
      slower.stream.reserve(static_cast<size_t>(whole) * slower.width);
      for (int m = 0; m < whole; m++)
        memcpy(r.groups.get() + static_cast<size_t>(m) * group, slower.states[m] + r.waiting, group * sizeof(float));
      r.shrink.prepare(r.groups.get(), group, whole, scratch_.rows);
      r.shrink.run(scratch_.rows, whole, slower.stream.get(), slower.width);
      run(depth + 1, whole, samples * r.pool);
      r.grow.prepare(slower.stream.get(), slower.width, whole, scratch_.rows);
      r.grow.run(scratch_.rows, whole, r.coming.get(), group);
      for (int m = 0; m < whole; m++)
        memcpy(slower.states[m] + r.ahead, r.coming.get() + static_cast<size_t>(m) * group, group * sizeof(float));
    }
    through(r.up, r, rows);
  }

  void through(const std::vector<Placed>& blocks, Rate& r, int rows) {
    for (const Placed& p : blocks) {
      gains_.clear();
      for (int m = 0; m < rows && condition_; m++) gains_.push_back(r.states[m] + 1 + p.column);
      p.block.run(r.stream.get(), rows, 1, r.states.data(), p.state, scratch_, condition_ ? gains_.data() : nullptr);
    }
  }

  int width_, condition_, period_ = 1;
  float eps_;
  Array<float> embedding_, norm_;
  Linear head_;
  std::vector<Rate> rates_;
  size_t state_floats_ = 0;
  Scratch scratch_;
  Array<float> logits_;
  std::vector<uint8_t> codes_;
  std::vector<const float*> gains_;
};

}  // namespace AM_ISA
