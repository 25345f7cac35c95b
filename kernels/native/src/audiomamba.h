/* C interface of the native engine. All pointers given to am_*_new are copied from, not kept. */
#ifndef AUDIOMAMBA_H
#define AUDIOMAMBA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Weights of one block; matrices are (outputs, inputs), row-major float32. */
typedef struct {
  int selective; /* 1: S6; 0: S4D */
  int channels, states, conv_taps, dt_rank, hidden, ffn_conv_taps;
  const float *norm, *in_proj, *conv_weight, *conv_bias, *out_proj;
  const float *x_proj, *dt_proj, *dt_bias; /* selective alone */
  const float *A, *B, *C, *D; /* selective: A (channels, states). S4D: A, B (discrete), C (channels, states / 2, 2) */
  const float *ffn_norm, *ffn_in_proj, *ffn_conv_weight, *ffn_conv_bias, *ffn_out_proj; /* hidden > 0 alone */
} am_block;

typedef struct {
  int bins, channels[2], width, vocabulary, blocks;
  float eps;
  int int8; /* linear maps: 1 int8 weights with 14-bit activations, 0 float32 */
  const float *mel_mean, *mel_scale;
  const float *first_weight, *first_bias, *second_weight, *second_bias; /* (out, in, 3, 3) */
  const float *project_weight, *project_bias, *norm, *out_weight, *out_bias;
  const am_block* block; /* blocks of them */
} am_transcriber;

typedef struct am_model am_model;

/* NULL where a size is not supported; am_error() says which. */
am_model* am_transcriber_new(const am_transcriber* weights);
void am_free(am_model* model);
const char* am_error(void);

/* Instruction set in use: "avx2" or "plain". */
const char* am_instruction_set(void);

/* Floats of one session's state; all zeros is the state before the first frame. */
size_t am_state_floats(const am_model* model);

/* features (sessions, 4 * frames, bins); states[i]: am_state_floats() floats, advanced in place;
   log_probs (sessions, frames, vocabulary). One thread at a time a model. */
void am_transcribe(am_model* model, const float* features, int sessions, int frames, float* const* states,
                   float* log_probs);

#ifdef __cplusplus
}
#endif
#endif
