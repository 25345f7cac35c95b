// A language model over pieces, one piece of many texts a call.
#pragma once

#include <cstring>
#include <vector>

#include "audiomamba.h"
#include "head.h"
#include "model.h"
#include "stack.h"

namespace AM_ISA {

class Language : public Model {
 public:
  explicit Language(const am_language& m)
      : width_(m.width), embedding_(m.embedding, static_cast<size_t>(m.vocabulary) * m.width),
        head_(m.norm, m.embedding, nullptr, m.vocabulary, m.width, m.eps, m.int8) {
    blocks_.reserve(m.blocks);
    for (int i = 0; i < m.blocks; i++) {
      blocks_.emplace_back(m.block[i], width_, m.eps, m.int8);
      offsets_.push_back(state_floats_);
      state_floats_ += blocks_.back().state_floats();
    }
  }

  size_t state_floats() const override { return state_floats_; }

  // May run in several threads at once, on different states. A row comes out the same whatever is beside it.
  void next(const int* pieces, int count, float* const* states, float* log_probs) const {
    static thread_local Scratch scratch;
    static thread_local Array<float> stream;
    stream.reserve(static_cast<size_t>(count) * width_);
    for (int m = 0; m < count; m++)
      memcpy(stream.get() + static_cast<size_t>(m) * width_, embedding_.get() + static_cast<size_t>(pieces[m]) * width_,
             width_ * sizeof(float));
    for (size_t b = 0; b < blocks_.size(); b++) blocks_[b].run(stream.get(), count, 1, states, offsets_[b], scratch);
    head_.run(stream.get(), count, scratch, log_probs);
  }

 private:
  int width_;
  Array<float> embedding_;
  Head head_;
  std::vector<Block> blocks_;
  std::vector<size_t> offsets_;
  size_t state_floats_ = 0;
};

}  // namespace AM_ISA
