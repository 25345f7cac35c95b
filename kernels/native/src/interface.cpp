// The C interface: picks the build for this processor once, checks sizes, passes calls on.
#include "audiomamba.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"

namespace plain {
extern const Engine ENGINE;
}
#ifdef AM_X86
namespace avx2 {
extern const Engine ENGINE;
}
namespace avx512 {
extern const Engine ENGINE;
}
#endif

struct am_model {
  const Engine* engine;
  void* model;
};

namespace {

thread_local std::string error;

struct Build {
  const char* name;
  const Engine* engine;
};

bool runs(const Build& build) {
  const std::string name = build.name;
#ifdef AM_X86
  if (name == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vnni");
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return name == "plain";
}

// The widest that this processor runs; or, to measure or test another, the one that is asked for.
Build pick() {
  const Build builds[] = {
#ifdef AM_X86
      {"avx512", &avx512::ENGINE},
      {"avx2", &avx2::ENGINE},
#endif
      {"plain", &plain::ENGINE},
  };
  const char* wanted = std::getenv("AUDIOMAMBA_INSTRUCTION_SET");
  const Build* widest = nullptr;
  for (const Build& build : builds) {
    if (!runs(build)) continue;
    if (wanted && std::string(wanted) == build.name) return build;
    if (!widest) widest = &build;
  }
  return *widest;
}

const int most = 2064;  // inputs that int8 times 14 bits can sum in 31 bits

std::string unsupported(const am_block* blocks, int count) {
  for (int i = 0; i < count; i++) {
    const am_block& b = blocks[i];
    if (b.channels % 16 || b.hidden % 16) return "channels of a block must be multiples of 16";
    if (b.channels > most || b.hidden > most) return "a block is wider than " + std::to_string(most);
    if (b.selective && b.states > 64) return "more than 64 states a channel are not supported";
  }
  return "";
}

std::string unsupported(const am_wave& w) {
  for (int i = 0; i < w.rates; i++) {
    const am_rate& r = w.rate[i];
    if (r.width % 16) return "width must be a multiple of 16, got " + std::to_string(r.width);
    if (i + 1 < w.rates && r.pool * r.width > most) return "a pool has more than " + std::to_string(most) + " inputs";
    std::string reason = unsupported(r.down, r.blocks);
    if (reason.empty() && i + 1 < w.rates) reason = unsupported(r.up, r.blocks);
    if (!reason.empty()) return reason;
  }
  return "";
}

std::string unsupported(const am_transcriber& t) {
  if (t.bins % 4) return "bins must be a multiple of 4, got " + std::to_string(t.bins);
  if (t.width % 16) return "width must be a multiple of 16, got " + std::to_string(t.width);
  if (t.channels[1] * (t.bins / 4) > most) return "the subsampler's projection has too many inputs";
  return t.block ? unsupported(t.block, t.blocks) : "";
}

std::string unsupported(const am_language& m) {
  if (m.width % 16) return "width must be a multiple of 16, got " + std::to_string(m.width);
  if (m.width > most) return "wider than " + std::to_string(most);
  return unsupported(m.block, m.blocks);
}

template <typename Weights>
am_model* make(const Weights& weights, void* (*Engine::*create)(const Weights*)) {
  const Engine* engine = pick().engine;
  error = unsupported(weights);
  if (!error.empty()) return nullptr;
  try {
    return new am_model{engine, (engine->*create)(&weights)};
  } catch (const std::exception& e) {
    error = e.what();
    return nullptr;
  }
}

// Parts of 0 .. count, a thread each.
void shared_out(long long count, int threads, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, count));
  std::vector<std::thread> others;
  for (int64_t i = 1; i < parts; i++) others.emplace_back(work, count * i / parts, count * (i + 1) / parts);
  work(0, count / parts);
  for (std::thread& other : others) other.join();
}

}  // namespace

extern "C" {

am_model* am_transcriber_new(const am_transcriber* weights) {
  return make(*weights, &Engine::new_transcriber);
}

int am_transcriber_add(am_model* model, const am_block* block) {
  error = unsupported(block, 1);
  if (!error.empty()) return 0;
  try {
    if (model->engine->add_block(model->model, block)) return 1;
    error = "there are as many blocks already as were announced";
  } catch (const std::exception& e) {
    error = e.what();
  }
  return 0;
}

am_model* am_wave_new(const am_wave* weights) { return make(*weights, &Engine::new_wave); }

am_model* am_language_new(const am_language* weights) { return make(*weights, &Engine::new_language); }

void am_free(am_model* model) {
  if (!model) return;
  model->engine->destroy(model->model);
  delete model;
}

const char* am_error(void) { return error.c_str(); }

const char* am_instruction_set(void) { return pick().name; }

size_t am_state_floats(const am_model* model) { return model->engine->state_floats(model->model); }

void am_transcribe(const am_model* model, const float* features, int sessions, int frames, float* const* states,
                   float* log_probs) {
  model->engine->transcribe(model->model, features, sessions, frames, states, log_probs);
}

void am_wave_feed(am_model* model, const unsigned char* codes, int streams, int samples, float* const* states,
                  float* logits) {
  model->engine->feed(model->model, codes, streams, samples, states, logits);
}

void am_wave_draw(am_model* model, const am_sampling* how, unsigned char* last, int streams, int samples,
                  float* const* states, const unsigned long long* seeds, const unsigned long long* first,
                  unsigned char* out) {
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t), "seeds are 64 bits wide");
  model->engine->draw(model->model, how, last, streams, samples, states, reinterpret_cast<const uint64_t*>(seeds),
                      reinterpret_cast<const uint64_t*>(first), out);
}

void am_language_next(const am_model* model, const int* pieces, int count, float* const* states, float* log_probs) {
  model->engine->next(model->model, pieces, count, states, log_probs);
}

void am_scan_forward(const am_scan* call, const am_sequence* out, float* last) {
  const Engine* engine = pick().engine;
  shared_out(engine->scan_items(*call), call->threads,
             [&](int64_t from, int64_t to) { engine->scan_forward(*call, from, to, *out, last); });
}

void am_scan_backward(const am_scan* call, const am_scan_gradients* gradients) {
  const Engine* engine = pick().engine;
  shared_out(call->rows, call->threads,
             [&](int64_t from, int64_t to) { engine->scan_backward(*call, from, to, *gradients); });
}

void am_conv_forward(const am_conv* call, const am_sequence* out, const am_sequence* last) {
  const Engine* engine = pick().engine;
  shared_out(engine->conv_items(*call), call->threads,
             [&](int64_t from, int64_t to) { engine->conv_forward(*call, from, to, *out, *last); });
}

void am_conv_backward(const am_conv* call, const am_conv_gradients* gradients) {
  const Engine* engine = pick().engine;
  shared_out(engine->conv_items(*call), call->threads,
             [&](int64_t from, int64_t to) { engine->conv_backward(*call, from, to, *gradients); });
}

void am_lti_forward(const am_lti* call, const am_sequence* out, float* last) {
  const Engine* engine = pick().engine;
  shared_out(engine->lti_items(*call), call->threads,
             [&](int64_t from, int64_t to) { engine->lti_forward(*call, from, to, *out, last); });
}

void am_lti_backward(const am_lti* call, const am_lti_gradients* gradients) {
  const Engine* engine = pick().engine;
  shared_out(engine->lti_items(*call), call->threads,
             [&](int64_t from, int64_t to) { engine->lti_backward(*call, from, to, *gradients); });
}
}
