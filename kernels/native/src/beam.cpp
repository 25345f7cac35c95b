#include "beam.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace {

const double CLEAR = std::log(0.5);  // from which a piece is said in a frame, not merely possible

// As numpy's.
double logaddexp(double x, double y) {
  if (x == y) return x + std::log(2.0);
  const double gap = x - y;
  return gap > 0 ? x + std::log1p(std::exp(-gap)) : y + std::log1p(std::exp(gap));
}

}  // namespace

double Hypothesis::total() const { return logaddexp(blank, piece); }

Texts::Texts(const am_model* model, int vocabulary)
    : model_(model), floats_(model ? am_state_floats(model) : 0), vocabulary_(vocabulary) {}

int Texts::begin() {
  if (!model_) return -1;
  const int slot = take();
  std::fill_n(row(slot), floats_, 0.0f);
  return slot;
}

int Texts::copy(int slot) {
  if (!model_) return -1;
  const int to = take();
  std::copy_n(row(slot), floats_ + vocabulary_, row(to));
  return to;
}

void Texts::let_go(int slot) {
  if (slot >= 0) free_.push_back(slot);
}

void Texts::forget() {
  blocks_.clear();  // their memory too: a stream is silent half of the time
  free_.clear();
  slots_ = 0;
}

void Texts::say(const std::vector<int>& pieces, const std::vector<int>& slots) {
  if (!model_ || slots.empty()) return;
  states_.clear();
  for (int slot : slots) states_.push_back(row(slot));
  log_probs_.resize(slots.size() * vocabulary_);
  am_language_next(model_, pieces.data(), static_cast<int>(slots.size()), states_.data(), log_probs_.data());
  for (size_t i = 0; i < slots.size(); i++)
    std::copy_n(log_probs_.data() + i * vocabulary_, vocabulary_, row(slots[i]) + floats_);
}

int Texts::take() {
  if (free_.empty()) {
    if (slots_ % TOGETHER == 0) blocks_.emplace_back(new float[TOGETHER * (floats_ + vocabulary_)]);
    return slots_++;
  }
  const int slot = free_.back();
  free_.pop_back();
  return slot;
}

Beam::Beam(const am_ngrams& model, const am_model* language, const am_beam_config& config, const double* bonus)
    : model_(model), texts_(language, model.vocabulary), config_(config), bonus_(bonus, bonus + model.vocabulary),
      column_of_(model.vocabulary, -1) {
  restart();
}

void Beam::restart() {
  clear();
  root_ = add(-1, BLANK, 0, 0.0);
  nodes_[root_].holders = 2;  // the root's own, and the hypothesis
  // What was not read yet is the boundary of sentences, which is the blank's piece.
  tips_ = {{root_, BLANK, texts_.begin(), true, model_.start(), 0.0, NEVER, 0.0}};
}

void Beam::clear() {
  texts_.forget();
  nodes_.clear();
  free_.clear();
  tips_.clear();
  said_.clear();
}

void Beam::rest() {
  for (Hypothesis& h : tips_) {
    h.blank = h.total();
    h.piece = NEVER;
  }
}

void Beam::step(const double* log_probs, int frame) {
  candidates(log_probs);
  const int rows = static_cast<int>(tips_.size()), columns = static_cast<int>(tried_.size());
  longer_.resize(static_cast<size_t>(rows) * columns);
  blank_.resize(rows);
  piece_.resize(rows);
  for (int r = 0; r < rows; r++) {
    const Hypothesis& h = tips_[r];
    const double total = h.total();
    blank_[r] = total + log_probs[BLANK];
    piece_[r] = h.piece + log_probs[h.last];
    // A piece after itself is a new one only where a blank stood between.
    for (int c = 0; c < columns; c++)
      longer_[static_cast<size_t>(r) * columns + c] = (tried_[c] == h.last ? h.blank : total) + log_probs[tried_[c]];
  }
  merge();
  ranked_.clear();
  double top = NEVER;
  for (int r = 0; r < rows; r++) {
    ranked_.push_back(logaddexp(blank_[r], piece_[r]) + tips_[r].fused);
    top = std::max(top, ranked_[r]);
    for (int c = 0; c < columns; c++) top = std::max(top, longer_[static_cast<size_t>(r) * columns + c] + tips_[r].fused);
  }
  choices_.clear();
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) {
      const double before = longer_[static_cast<size_t>(r) * columns + c] + tips_[r].fused;
      if (!(before > top - config_.margin)) continue;
      choices_.push_back({r, c, before, 0.0, tips_[r].context});
    }
  if (texts_) read();
  for (Choice& choice : choices_) {
    const int piece = tried_[choice.column];
    float score = static_cast<float>(config_.weight) * model_.score(choice.context, piece);
    if (texts_) score += static_cast<float>(config_.neural_weight) * texts_.log_prob(tips_[choice.row].slot, piece);
    choice.added = score + bonus_[piece];
    ranked_.push_back(choice.before + choice.added);
  }
  order_.resize(ranked_.size());
  std::iota(order_.begin(), order_.end(), 0);
  // Stable, so that equals never change places with another cut of the stream.
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return ranked_[a] > ranked_[b]; });
  if (order_.size() > static_cast<size_t>(config_.beam)) order_.resize(config_.beam);
  mark(log_probs, frame);
  next_.clear();
  from_.clear();
  for (int at : order_)
    if (at < rows) {
      const Hypothesis& h = tips_[at];
      next_.push_back({h.node, h.last, h.slot, h.unread, h.context, blank_[at], piece_[at], h.fused});
      from_.push_back(at);
      nodes_[h.node].holders++;
    }
  const size_t kept = next_.size();
  for (int at : order_)
    if (at >= rows) {
      const Choice& choice = choices_[at - rows];
      const Hypothesis& from = tips_[choice.row];
      const int piece = tried_[choice.column];
      const int node = add(from.node, piece, frame, log_probs[piece]);
      const double heard = longer_[static_cast<size_t>(choice.row) * columns + choice.column];
      next_.push_back({node, piece, from.slot, true, choice.context, NEVER, heard, from.fused + choice.added});
      from_.push_back(choice.row);
    }
  if (texts_) share_texts(kept);
  for (const Hypothesis& h : tips_) let_go(h.node);
  std::swap(tips_, next_);
  double shift = tips_[0].total();
  for (const Hypothesis& h : tips_) shift = std::max(shift, h.total());
  for (Hypothesis& h : tips_) {  // else it sinks for ever
    h.blank = std::max(h.blank - shift, NEVER);
    h.piece = std::max(h.piece - shift, NEVER);
  }
}

// Give each hypothesis in next_ a text of its own: the first `kept` have theirs, of the others the last
// heir takes over the text that it goes on from, and those before it copy it.
void Beam::share_texts(size_t kept) {
  heirs_.assign(tips_.size(), 0);
  for (int row : from_) heirs_[row]++;
  for (size_t r = 0; r < tips_.size(); r++)
    if (!heirs_[r]) texts_.let_go(tips_[r].slot);
  for (size_t i = kept; i < next_.size(); i++)
    if (--heirs_[from_[i]]) next_[i].slot = texts_.copy(next_[i].slot);
}

// Read the last piece of those hypotheses that are about to be gone on from; some never are.
void Beam::read() {
  pieces_.clear();
  slots_.clear();
  for (const Choice& choice : choices_) {
    Hypothesis& h = tips_[choice.row];
    if (!h.unread) continue;
    h.unread = false;
    pieces_.push_back(h.last);
    slots_.push_back(h.slot);
  }
  texts_.say(pieces_, slots_);
}

// The pieces worth trying in a frame, in order of id.
void Beam::candidates(const double* log_probs) {
  const int V = static_cast<int>(bonus_.size());
  const double least = *std::max_element(log_probs, log_probs + V) - config_.piece_margin;
  tried_.clear();
  for (int p = 0; p < V; p++)
    if (p != BLANK && log_probs[p] > least) tried_.push_back(p);
  if (tried_.size() > static_cast<size_t>(config_.candidates)) {
    std::stable_sort(tried_.begin(), tried_.end(), [&](int a, int b) { return log_probs[a] > log_probs[b]; });
    tried_.resize(config_.candidates);
    std::sort(tried_.begin(), tried_.end());
  }
}

// Where an extension is a prefix that is there already, give it what it has.
void Beam::merge() {
  const int columns = static_cast<int>(tried_.size());
  row_of_.assign(nodes_.size(), -1);
  for (size_t r = 0; r < tips_.size(); r++) row_of_[tips_[r].node] = static_cast<int>(r);
  for (int c = 0; c < columns; c++) column_of_[tried_[c]] = c;
  for (size_t r = 0; r < tips_.size(); r++) {
    const Heard& node = nodes_[tips_[r].node];
    const int row = node.parent < 0 ? -1 : row_of_[node.parent], column = column_of_[node.piece];
    if (row < 0 || column < 0) continue;
    double& longer = longer_[static_cast<size_t>(row) * columns + column];
    piece_[r] = logaddexp(piece_[r], longer);
    longer = NEVER;
  }
  for (int p : tried_) column_of_[p] = -1;
}

// Note on the last pieces that they are heard in this frame, where they clearly are. After a blank
// it is not they that are heard, but the same piece anew. Where a better hypothesis has gone on from a
// piece, that one knows when it was heard.
void Beam::mark(const double* log_probs, int frame) {
  for (const Hypothesis& h : tips_) {
    Heard& node = nodes_[h.node];
    const double score = log_probs[node.piece];
    if (h.node == root_ || h.blank > h.piece || score < CLEAR || is_behind(h)) continue;
    if (node.score < CLEAR) node.first = frame;  // it was a guess until now
    node.last = frame;
    node.score = std::max(node.score, score);
  }
}

// Whether a better hypothesis goes on from the last piece of this one.
bool Beam::is_behind(const Hypothesis& h) const {
  const double rank = h.total() + h.fused;
  return std::any_of(tips_.begin(), tips_.end(), [&](const Hypothesis& other) {
    return other.total() + other.fused > rank && at_depth(other.node, nodes_[h.node].depth) == h.node;
  });
}

int Beam::best() const {
  int best = 0;
  double top = tips_[0].total() + tips_[0].fused;
  for (size_t r = 1; r < tips_.size(); r++) {
    const double rank = tips_[r].total() + tips_[r].fused;
    if (rank > top) best = static_cast<int>(r), top = rank;
  }
  return tips_[best].node;
}

int Beam::last_heard() const {
  const int node = best();
  return node == root_ ? -1 : nodes_[node].last;
}

std::vector<int> Beam::path() const {
  std::vector<int> path;
  for (int at = best(); at != root_; at = nodes_[at].parent) path.push_back(at);
  std::reverse(path.begin(), path.end());
  return path;
}

int Beam::shared() const {
  int a = tips_[0].node;
  for (const Hypothesis& h : tips_)
    for (int b = h.node; a != b;) {
      int& deeper = nodes_[a].depth >= nodes_[b].depth ? a : b;
      deeper = nodes_[deeper].parent;
    }
  return nodes_[a].depth;
}

int Beam::at_depth(int node, int depth) const {
  while (node != root_ && nodes_[node].depth > depth) node = nodes_[node].parent;
  return node;
}

void Beam::keep_only(int depth) {
  const int wanted = at_depth(best(), depth);
  next_.clear();
  for (const Hypothesis& h : tips_)
    if (at_depth(h.node, depth) == wanted) {
      next_.push_back(h);
      nodes_[h.node].holders++;
    } else {
      texts_.let_go(h.slot);
    }
  for (const Hypothesis& h : tips_) let_go(h.node);
  std::swap(tips_, next_);
}

void Beam::settle(int depth) {
  const int before = root_, parent = nodes_[root_ = at_depth(best(), depth)].parent;
  if (root_ == before) return;
  const size_t old = said_.size();
  for (int at = root_; at != before; at = nodes_[at].parent) said_.push_back(nodes_[at].piece);
  std::reverse(said_.begin() + old, said_.end());
  nodes_[root_].holders++;
  nodes_[root_].parent = -1;
  let_go(parent);
  let_go(before);
}

int Beam::add(int parent, int piece, int frame, double score) {
  const Heard node{parent, piece, frame, frame, parent < 0 ? 0 : nodes_[parent].depth + 1, score, 1};
  if (parent >= 0) nodes_[parent].holders++;
  if (free_.empty()) {
    nodes_.push_back(node);
    return static_cast<int>(nodes_.size()) - 1;
  }
  const int at = free_.back();
  free_.pop_back();
  nodes_[at] = node;
  return at;
}

void Beam::let_go(int node) {
  while (node >= 0 && --nodes_[node].holders == 0) {
    free_.push_back(node);
    node = nodes_[node].parent;
  }
}

void Beam::load(const am_heard* nodes, const int* parents, int count, const am_hypothesis* tips, int tip_count,
                std::vector<int> said) {
  clear();
  said_ = std::move(said);
  for (int i = 0; i < count; i++) {
    const int at = add(parents[i], nodes[i].piece, nodes[i].first, nodes[i].score);
    nodes_[at].last = nodes[i].last;
    nodes_[at].holders = 0;  // of hypotheses and children, which are still to come
  }
  for (int i = 0; i < count; i++)
    if (parents[i] >= 0) nodes_[parents[i]].holders++;
  root_ = 0;
  nodes_[root_].holders++;
  for (int i = 0; i < tip_count; i++) {
    const am_hypothesis& t = tips[i];
    nodes_[t.node].holders++;
    tips_.push_back({t.node, nodes_[t.node].piece, -1, false, t.context, t.blank, t.piece, t.fused});
  }
  if (!texts_) return;
  const int root = texts_.begin();
  texts_.say({BLANK}, {root});  // the boundary
  for (int piece : said_) texts_.say({piece}, {root});
  for (Hypothesis& h : tips_) {
    std::vector<int> path;
    for (int at = h.node; at != root_; at = nodes_[at].parent) path.push_back(nodes_[at].piece);
    h.slot = texts_.copy(root);
    for (auto piece = path.rbegin(); piece != path.rend(); ++piece) texts_.say({*piece}, {h.slot});
  }
  texts_.let_go(root);
}

// The C interface.

struct am_beam {
  Beam beam;
};

extern "C" {

void am_ngrams_link(const void* keys, long long nodes, int wide, int vocabulary, void* suffixes) {
  if (wide) {
    link_ngrams(static_cast<const int64_t*>(keys), nodes, vocabulary, static_cast<int64_t*>(suffixes));
  } else {
    link_ngrams(static_cast<const int32_t*>(keys), nodes, vocabulary, static_cast<int32_t*>(suffixes));
  }
}

am_beam* am_beam_new(const am_ngrams* model, const am_model* language, const am_beam_config* config,
                     const double* bonus) {
  return new am_beam{Beam(*model, language, *config, bonus)};
}

void am_beam_free(am_beam* b) { delete b; }
void am_beam_restart(am_beam* b) { b->beam.restart(); }
void am_beam_rest(am_beam* b) { b->beam.rest(); }
void am_beam_step(am_beam* b, const double* log_probs, int frame) { b->beam.step(log_probs, frame); }
int am_beam_empty(const am_beam* b) { return b->beam.empty(); }
int am_beam_last_heard(const am_beam* b) { return b->beam.last_heard(); }
int am_beam_shared(const am_beam* b) { return b->beam.shared(); }
void am_beam_keep_only(am_beam* b, int depth) { b->beam.keep_only(depth); }
void am_beam_settle(am_beam* b, int depth) { b->beam.settle(depth); }

static am_heard heard(const Heard& n) { return {n.piece, n.first, n.last, n.depth, n.score}; }

int am_beam_path(const am_beam* b, am_heard* out, int room) {
  const std::vector<int> path = b->beam.path();
  for (int i = 0; i < room && i < static_cast<int>(path.size()); i++) out[i] = heard(b->beam.node(path[i]));
  return static_cast<int>(path.size());
}

int am_beam_save(const am_beam* b, am_heard* nodes, int* parents, int room, am_hypothesis* tips, int* tip_count) {
  const Beam& beam = b->beam;
  std::vector<int> order{beam.root()}, at_of;
  const auto place = [&](int node) {
    if (node >= static_cast<int>(at_of.size())) at_of.resize(node + 1, -1);
    return &at_of[node];
  };
  *place(beam.root()) = 0;
  *tip_count = 0;
  for (const Hypothesis& h : beam.tips()) {
    std::vector<int> fresh;
    for (int at = h.node; *place(at) < 0; at = beam.node(at).parent) fresh.push_back(at);
    for (auto it = fresh.rbegin(); it != fresh.rend(); ++it) {
      *place(*it) = static_cast<int>(order.size());
      order.push_back(*it);
    }
    if (*tip_count < room) tips[*tip_count] = {*place(h.node), h.context, h.blank, h.piece, h.fused};
    ++*tip_count;
  }
  for (int i = 0; i < room && i < static_cast<int>(order.size()); i++) {
    nodes[i] = heard(beam.node(order[i]));
    parents[i] = i ? *place(beam.node(order[i]).parent) : -1;
  }
  return static_cast<int>(order.size());
}

int am_beam_said(const am_beam* b, int* pieces, int room) {
  const std::vector<int>& said = b->beam.said();
  std::copy_n(said.begin(), std::min<size_t>(said.size(), room), pieces);
  return static_cast<int>(said.size());
}

void am_beam_load(am_beam* b, const am_heard* nodes, const int* parents, int count, const am_hypothesis* tips,
                  int tip_count, const int* said, int said_count) {
  b->beam.load(nodes, parents, count, tips, tip_count, std::vector<int>(said, said + said_count));
}
}
