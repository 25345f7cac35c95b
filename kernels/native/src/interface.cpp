// The C interface: picks the build for this processor once, checks sizes, passes calls on.
#include "audiomamba.h"

#include <exception>
#include <string>

#include "engine.h"

namespace plain {
extern const Engine ENGINE;
}
#ifdef AM_HAVE_AVX2
namespace avx2 {
extern const Engine ENGINE;
}
#endif

struct am_model {
  const Engine* engine;
  void* model;
};

namespace {

thread_local std::string error;

bool has_avx2() {
#ifdef AM_HAVE_AVX2
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

const Engine* pick() {
#ifdef AM_HAVE_AVX2
  if (has_avx2()) return &avx2::ENGINE;
#endif
  return &plain::ENGINE;
}

std::string unsupported(const am_transcriber& t) {
  const int most = 2064;  // inputs that int8 times 14 bits can sum in 31 bits
  if (t.bins % 4) return "bins must be a multiple of 4, got " + std::to_string(t.bins);
  if (t.width % 16) return "width must be a multiple of 16, got " + std::to_string(t.width);
  if (t.channels[1] * (t.bins / 4) > most) return "the subsampler's projection has too many inputs";
  for (int i = 0; i < t.blocks; i++) {
    const am_block& b = t.block[i];
    if (b.channels % 16 || b.hidden % 16) return "channels of a block must be multiples of 16";
    if (b.channels > most || b.hidden > most) return "a block is wider than " + std::to_string(most);
    if (b.selective && b.states > 64) return "more than 64 states a channel are not supported";
  }
  return "";
}

}  // namespace

extern "C" {

am_model* am_transcriber_new(const am_transcriber* weights) {
  const Engine* engine = pick();
  error = unsupported(*weights);
  if (!error.empty()) return nullptr;
  try {
    return new am_model{engine, engine->create(weights)};
  } catch (const std::exception& e) {
    error = e.what();
    return nullptr;
  }
}

void am_free(am_model* model) {
  if (!model) return;
  model->engine->destroy(model->model);
  delete model;
}

const char* am_error(void) { return error.c_str(); }

const char* am_instruction_set(void) { return has_avx2() ? "avx2" : "plain"; }

size_t am_state_floats(const am_model* model) { return model->engine->state_floats(model->model); }

void am_transcribe(am_model* model, const float* features, int sessions, int frames, float* const* states,
                   float* log_probs) {
  model->engine->transcribe(model->model, features, sessions, frames, states, log_probs);
}
}
