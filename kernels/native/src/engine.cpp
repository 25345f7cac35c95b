// One build of the engine for one instruction set, behind a table of functions.
// Compiled with -DAM_ISA=<name> -DAM_VECTOR_BYTES=<16|32|64>.
#include "engine.h"

#include "conv.h"
#include "language.h"
#include "lti.h"
#include "scan.h"
#include "transcriber.h"
#include "wave.h"

namespace AM_ISA {

static void* new_transcriber(const am_transcriber* t) { return static_cast<Model*>(new Transcriber(*t)); }
static bool add_block(void* model, const am_block* block) {
  return static_cast<Transcriber*>(static_cast<Model*>(model))->add(*block);
}
static void* new_wave(const am_wave* w) { return static_cast<Model*>(new Wave(*w)); }
static void* new_language(const am_language* m) { return static_cast<Model*>(new Language(*m)); }
static void destroy(void* model) { delete static_cast<Model*>(model); }
static size_t state_floats(const void* model) { return static_cast<const Model*>(model)->state_floats(); }
static Wave& wave(void* model) { return *static_cast<Wave*>(static_cast<Model*>(model)); }

static void transcribe(const void* model, const float* features, int sessions, int frames, float* const* states,
                       float* log_probs) {
  static_cast<const Transcriber*>(static_cast<const Model*>(model))->run(features, sessions, frames, states, log_probs);
}

static void feed(void* model, const uint8_t* codes, int streams, int samples, float* const* states, float* logits) {
  wave(model).feed(codes, streams, samples, states, logits);
}

static void draw(void* model, const am_sampling* how, uint8_t* last, int streams, int samples, float* const* states,
                 const uint64_t* seeds, const uint64_t* first, uint8_t* out) {
  wave(model).draw(*how, last, streams, samples, states, seeds, first, out);
}

static void next(const void* model, const int* pieces, int count, float* const* states, float* log_probs) {
  static_cast<const Language*>(static_cast<const Model*>(model))->next(pieces, count, states, log_probs);
}

static int64_t scan_items(const am_scan& call) { return Scan<0>(call).items(); }

static void scan_forward(const am_scan& call, int64_t from, int64_t to, const am_sequence& out, float* last) {
  if (call.states == 16)
    Scan<16>(call).forward(from, to, out, last);
  else
    Scan<0>(call).forward(from, to, out, last);
}

static void scan_backward(const am_scan& call, int64_t from, int64_t to, const am_scan_gradients& gradients) {
  if (call.states == 16)
    Scan<16>(call).backward(from, to, gradients);
  else
    Scan<0>(call).backward(from, to, gradients);
}

static int64_t conv_items(const am_conv& call) { return Conv<0>(call).items(); }

static void conv_forward(const am_conv& call, int64_t from, int64_t to, const am_sequence& out,
                         const am_sequence& last) {
  if (call.taps == 4)
    Conv<4>(call).forward(from, to, out, last);
  else
    Conv<0>(call).forward(from, to, out, last);
}

static void conv_backward(const am_conv& call, int64_t from, int64_t to, const am_conv_gradients& gradients) {
  if (call.taps == 4)
    Conv<4>(call).backward(from, to, gradients);
  else
    Conv<0>(call).backward(from, to, gradients);
}

static int64_t lti_items(const am_lti& call) { return Lti(call).items(); }

static void lti_forward(const am_lti& call, int64_t from, int64_t to, const am_sequence& out, float* last) {
  Lti(call).forward(from, to, out, last);
}

static void lti_backward(const am_lti& call, int64_t from, int64_t to, const am_lti_gradients& gradients) {
  Lti(call).backward(from, to, gradients);
}

extern const Engine ENGINE = {
    new_transcriber, add_block,    new_wave,      new_language, destroy,      state_floats,
    transcribe,      feed,         draw,          next,         scan_items,   scan_forward,
    scan_backward,   conv_items,   conv_forward,  conv_backward, lti_items,   lti_forward,
    lti_backward,
};

}  // namespace AM_ISA
