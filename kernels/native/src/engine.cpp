// One build of the engine for one instruction set, behind a table of functions.
// Compiled with -DAM_ISA=<name> -DAM_VECTOR_BYTES=<16|32>.
#include "engine.h"

#include "transcriber.h"

namespace AM_ISA {

static void* create(const am_transcriber* t) { return new Transcriber(*t); }
static void destroy(void* model) { delete static_cast<Transcriber*>(model); }
static size_t state_floats(const void* model) { return static_cast<const Transcriber*>(model)->state_floats(); }
static void transcribe(void* model, const float* features, int sessions, int frames, float* const* states,
                       float* log_probs) {
  static_cast<Transcriber*>(model)->run(features, sessions, frames, states, log_probs);
}

extern const Engine ENGINE = {create, destroy, state_floats, transcribe};

}  // namespace AM_ISA
