// From the last block's stream to log-probabilities: norm, linear map, log-softmax; and beside these, of
// the same rows, questions whose answers are yes or no: linear map, log-sigmoid.
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

  // Questions beside the outputs: weight (count, width), bias (count). They are few, so they stay float32.
  void ask(const float* weight, const float* bias, int count) {
    if (count) questions_ = Linear(weight, bias, count, width_, false);
  }

  // stream (M, width) to log_probs (M, outputs + questions)
  void run(const float* stream, int M, Scratch& scratch, float* log_probs) const {
    scratch.normed.reserve(static_cast<size_t>(M) * width_);
    Block::normalise(stream, norm_.get(), width_, eps_, M, scratch.normed.get());
    const int ld = std::max(out_.padded(), questions_.padded()), outputs = out_.outputs();
    const size_t all = static_cast<size_t>(outputs) + questions_.outputs();
    scratch.wide.reserve(static_cast<size_t>(M) * ld);
    out_.prepare(scratch.normed.get(), width_, M, scratch.rows);
    out_.run(scratch.rows, M, scratch.wide.get(), ld);
    for (int m = 0; m < M; m++)
      log_softmax(scratch.wide.get() + static_cast<size_t>(m) * ld, outputs, log_probs + m * all);
    if (!questions_.outputs()) return;
    questions_.prepare(scratch.normed.get(), width_, M, scratch.rows);
    questions_.run(scratch.rows, M, scratch.wide.get(), ld);
    for (int m = 0; m < M; m++)
      for (int i = 0; i < questions_.outputs(); i++)
        log_probs[m * all + outputs + i] = log_sigmoid(scratch.wide[static_cast<size_t>(m) * ld + i]);
  }

 private:
  static void log_softmax(const float* x, int n, float* y) {
    const float top = *std::max_element(x, x + n);
    double total = 0;
    for (int i = 0; i < n; i++) total += std::exp(x[i] - top);
    const float log_total = top + static_cast<float>(std::log(total));
    for (int i = 0; i < n; i++) y[i] = x[i] - log_total;
  }

  static float log_sigmoid(float x) { return std::min(x, 0.0f) - std::log1p(std::exp(-std::fabs(x))); }

  int width_;
  float eps_;
  Array<float> norm_;
  Linear out_, questions_;
};

}  // namespace AM_ISA
