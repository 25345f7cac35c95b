// Look-ups in the language model of audiomamba/text/ngram.py, whose columns lie in Python's memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "audiomamba.h"

class Ngrams {
 public:
  explicit Ngrams(const am_ngrams& columns) : c_(columns) {}

  int64_t start() const { return c_.start; }

  // Log-probability of a piece after a context, which becomes the context after it. All sums are of
  // float32 and in NgramModel.score's order, so they are equal to the bit.
  float score(int64_t& context, int piece) const {
    float paid = 0;
    int64_t at = context, found = find(at, piece);
    while (found < 0) {
      paid += column(c_.backoffs, c_.backoff_codes, at - 1);
      at = suffix(at);
      found = find(at, piece);
    }
    context = found;
    while (!c_.has_children[context]) context = suffix(context);
    return paid + column(c_.log_probs, c_.log_prob_codes, found - 1);
  }

 private:
  int64_t find(int64_t node, int piece) const {
    const int64_t key = node * c_.vocabulary + piece;
    return c_.wide ? find_in(static_cast<const int64_t*>(c_.keys), key)
                   : find_in(static_cast<const int32_t*>(c_.keys), key);
  }

  template <typename Key>
  int64_t find_in(const Key* keys, int64_t key) const {
    const Key* at = std::lower_bound(keys, keys + c_.nodes, key, [](Key a, int64_t b) { return a < b; });
    return at != keys + c_.nodes && *at == key ? at - keys + 1 : -1;
  }

  int64_t suffix(int64_t node) const {
    return c_.wide ? static_cast<const int64_t*>(c_.suffixes)[node] : static_cast<const int32_t*>(c_.suffixes)[node];
  }

  static float column(const float* values, const unsigned char* codes, int64_t at) {
    return codes ? values[codes[at]] : values[at];
  }

  am_ngrams c_;
};
