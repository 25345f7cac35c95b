// From the last block's stream to log-probabilities: norm, linear map, log-softmax.
#pragma once

#include <algorithm>
#include <cmath>

#include "stack.h"

namespace AM_ISA {

class Head {
 public:
  // weight (outputs, width), bias (outputs) or NULL
  Head(const float* norm, const float* weight, const float* bias, int outputs, int width, float eps, bool int8)
      : width_(width), eps_(eps), norm_(norm, width), out_(weight, bias, outputs, width, int8) {}

  // stream (M, width) to log_probs (M, outputs)
  void run(const float* stream, int M, Scratch& scratch, float* log_probs) const {
    scratch.normed.reserve(static_cast<size_t>(M) * width_);
    Block::normalise(stream, norm_.get(), width_, eps_, M, scratch.normed.get());
    const int ld = out_.padded(), outputs = out_.outputs();
    scratch.wide.reserve(static_cast<size_t>(M) * ld);
    out_.prepare(scratch.normed.get(), width_, M, scratch.rows);
    out_.run(scratch.rows, M, scratch.wide.get(), ld);
    for (int m = 0; m < M; m++)
      log_softmax(scratch.wide.get() + static_cast<size_t>(m) * ld, outputs,
                  log_probs + static_cast<size_t>(m) * outputs);
  }

 private:
  static void log_softmax(const float* x, int n, float* y) {
    const float top = *std::max_element(x, x + n);
    double total = 0;
    for (int i = 0; i < n; i++) total += std::exp(x[i] - top);
    const float log_total = top + static_cast<float>(std::log(total));
    for (int i = 0; i < n; i++) y[i] = x[i] - log_total;
  }

  int width_;
  float eps_;
  Array<float> norm_;
  Linear out_;
};

}  // namespace AM_ISA
