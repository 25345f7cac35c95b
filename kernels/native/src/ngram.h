// Look-ups in the language model of audiomamba/text/ngram.py, whose columns lie in Python's memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "audiomamba.h"

// Of each n-gram the longest one there is that is its end without its first piece, as
// NgramModel._suffixes; suffixes has nodes + 1. Keys grow, and with them the parents, whose suffixes
// are therefore known when their children's are asked for.
template <typename Key>
void link_ngrams(const Key* keys, int64_t nodes, int vocabulary, Key* suffixes) {
  std::vector<Key> first(nodes + 2);  // of each node, how many keys stand before its children's
  for (int64_t i = 0; i < nodes; ++i) ++first[keys[i] / vocabulary + 1];
  for (int64_t i = 1; i < nodes + 2; ++i) first[i] += first[i - 1];
  suffixes[0] = 0;
  for (int64_t i = 0; i < nodes; ++i) {
    const Key parent = keys[i] / vocabulary, piece = keys[i] % vocabulary;
    Key found = 0;  // of a unigram it is the root
    for (Key at = suffixes[parent]; parent != 0; at = suffixes[at]) {
      const Key key = at * vocabulary + piece;
      const Key *begin = keys + first[at], *end = keys + first[at + 1];
      const Key* place = std::lower_bound(begin, end, key);
      if (place != end && *place == key) {
        found = static_cast<Key>(place - keys + 1);
        break;
      }
      if (at == 0) break;  // every piece follows the root
    }
    suffixes[i + 1] = found;
  }
}

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
    while (!has_children(context)) context = suffix(context);
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

  bool has_children(int64_t node) const { return c_.has_children[node >> 3] >> (node & 7) & 1; }

  int64_t suffix(int64_t node) const {
    return c_.wide ? static_cast<const int64_t*>(c_.suffixes)[node] : static_cast<const int32_t*>(c_.suffixes)[node];
  }

  static float column(const float* values, const unsigned char* codes, int64_t at) {
    return codes ? values[codes[at]] : values[at];
  }

  am_ngrams c_;
};
