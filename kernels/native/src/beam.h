// The beam search of audiomamba/text/beam.py, which says what it is and why; the same to the bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "ngram.h"

constexpr int BLANK = 0;
constexpr double NEVER = -1e30;

struct Heard {  // the last piece of a prefix, and where it was heard
  int parent, piece, first, last, depth;
  double score;
  int holders;  // children, hypotheses that end here, and the root's own
};

struct Hypothesis {
  int node, last;
  int slot;     // its text in the language model
  bool unread;  // that text ends before the last piece
  int64_t context;
  double blank, piece, fused;

  double total() const;
};

// What a language model knows of each hypothesis: a state and the log-probabilities of the next piece, in
// slots that are handed on. Without a model there are none, and every slot is -1.
class Texts {
 public:
  Texts(const am_model* model, int vocabulary);

  int begin();            // an empty text, before the boundary of sentences
  int copy(int slot);     // a text that goes on in another way too
  void let_go(int slot);
  void say(const std::vector<int>& pieces, const std::vector<int>& slots);  // one piece more each

  void forget();  // all of them

  // Of the next piece.
  float log_prob(int slot, int piece) const { return row(slot)[floats_ + piece]; }
  explicit operator bool() const { return model_; }

 private:
  // Slots that share an allocation: so large a one has pages of its own, which go when it does and are
  // not there before they are written to.
  static constexpr int TOGETHER = 16;

  int take();
  float* row(int slot) const {  // a state, then log-probabilities
    return blocks_[slot / TOGETHER].get() + slot % TOGETHER * (floats_ + vocabulary_);
  }

  const am_model* model_;
  size_t floats_;
  int vocabulary_, slots_ = 0;
  std::vector<std::unique_ptr<float[]>> blocks_;
  std::vector<int> free_;
  std::vector<float*> states_;  // of one call
  std::vector<float> log_probs_;
};

class Beam {
 public:
  Beam(const am_ngrams& model, const am_model* language, const am_beam_config& config, const double* bonus);

  void restart();
  void rest();
  void step(const double* log_probs, int frame);

  bool empty() const { return tips_.size() == 1 && tips_[0].node == root_; }
  int last_heard() const;  // of the best hypothesis; -1 where it is the root
  std::vector<int> path() const;  // of the best hypothesis, from below the root
  int shared() const;  // depth of the last node that all hypotheses have in common
  void keep_only(int depth);  // hypotheses that are as the best one up to its node of that depth
  void settle(int depth);  // that node, which all go beyond, becomes the root

  int root() const { return root_; }
  const Heard& node(int at) const { return nodes_[at]; }
  const std::vector<Hypothesis>& tips() const { return tips_; }
  const std::vector<int>& said() const { return said_; }  // pieces that led to the root, its own the last

  // A state: nodes with parents before children, the root first, then hypotheses by node. What the
  // language model knows of them is no part of it: that follows from their pieces.
  void load(const am_heard* nodes, const int* parents, int count, const am_hypothesis* tips, int tip_count,
            std::vector<int> said);

 private:
  struct Choice {
    int row, column;
    double before, added;
    int64_t context;
  };

  int best() const;
  int at_depth(int node, int depth) const;
  void candidates(const double* log_probs);
  void merge();
  void mark(const double* log_probs, int frame);
  bool is_behind(const Hypothesis& h) const;
  void share_texts(size_t kept);
  void read();
  int add(int parent, int piece, int frame, double score);
  void let_go(int node);
  void clear();

  Ngrams model_;
  Texts texts_;
  am_beam_config config_;
  std::vector<double> bonus_;  // of each piece
  std::vector<Heard> nodes_;
  std::vector<int> free_;
  int root_ = -1;
  std::vector<Hypothesis> tips_;
  std::vector<int> said_;

  // Of one step; kept so that nothing is allocated in the next.
  std::vector<int> tried_, column_of_, row_of_, order_, from_, heirs_, pieces_, slots_;
  std::vector<double> longer_, blank_, piece_, ranked_;
  std::vector<Choice> choices_;
  std::vector<Hypothesis> next_;
};
