// The beam search of audiomamba/text/beam.py, which says what it is and why; the same to the bit.
#pragma once

#include <cmath>
#include <cstdint>
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
  int64_t context;
  double blank, piece, fused;

  double total() const;
};

class Beam {
 public:
  Beam(const am_ngrams& model, const am_beam_config& config, const double* starts);

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

  // A state: nodes with parents before children, the root first, then hypotheses by node.
  void load(const am_heard* nodes, const int* parents, int count, const am_hypothesis* tips, int tip_count);

 private:
  struct Choice {
    int row, column;
    double before, added, ranked;
    int64_t context;
  };

  int best() const;
  int at_depth(int node, int depth) const;
  void candidates(const double* log_probs);
  void merge();
  void mark(const double* log_probs, int frame);
  int add(int parent, int piece, int frame, double score);
  void let_go(int node);
  void clear();

  Ngrams model_;
  am_beam_config config_;
  std::vector<double> starts_;
  std::vector<Heard> nodes_;
  std::vector<int> free_;
  int root_ = -1;
  std::vector<Hypothesis> tips_;

  // Of one step; kept so that nothing is allocated in the next.
  std::vector<int> tried_, column_of_, row_of_, order_;
  std::vector<double> longer_, blank_, piece_, ranked_;
  std::vector<Choice> choices_;
  std::vector<Hypothesis> next_;
};
