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
  int channels, states, conv_taps, dt_rank, hidden, ffn_conv_taps, ahead_taps;
  const float *norm, *in_proj, *conv_weight, *conv_bias, *out_proj;
  const float *x_proj, *dt_proj, *dt_bias; /* selective alone */
  const float *A, *B, *C, *D; /* selective: A (channels, states). S4D: A, B (discrete), C (channels, states / 2, 2) */
  /* On the stream before the block, ahead_taps > 0 alone: (width, ahead_taps), and what the stream was before
     its first frame, (width). */
  const float *ahead_weight, *ahead_rest;
  const float *ffn_norm, *ffn_in_proj, *ffn_conv_weight, *ffn_conv_bias, *ffn_out_proj; /* hidden > 0 alone */
} am_block;

typedef struct {
  int bins, channels[2], width, vocabulary, blocks;
  float eps;
  int int8; /* linear maps: 1 int8 weights with 14-bit activations, 0 float32 */
  const float *mel_mean, *mel_scale;
  const float *first_weight, *first_bias, *second_weight, *second_bias; /* (out, in, 3, 3) */
  const float *project_weight, *project_bias, *norm, *out_weight, *out_bias;
  const am_block* block; /* blocks of them, or NULL: they are added one by one */
  int ends;              /* outputs beside the pieces, a yes or no each; may be 0 */
  const float *ends_weight, *ends_bias; /* (ends, width), (ends); float32 whatever int8 says */
} am_transcriber;

/* One rate of a waveform model: blocks before and after its pool; the last rate has no pool. */
typedef struct {
  int width, pool, blocks; /* blocks on each side */
  const am_block *down, *up;
  const float *shrink_weight, *shrink_bias, *grow_weight, *grow_bias; /* (slower, pool * width) and back */
} am_rate;

typedef struct {
  int rates, condition; /* floats of a condition: offset of the embedding, then gains of the blocks in order; or 0 */
  float eps;
  int int8;
  const float *embedding, *norm, *head_weight, *head_bias; /* 256 classes */
  const am_rate* rate; /* rates of them, the fastest first */
} am_wave;

typedef struct {
  float temperature; /* 0: the likeliest class */
  float top_p;       /* share of the probability that classes are drawn from; 1: all */
  float guidance;    /* 1: the condition as it is; more: away from what is likely without it */
} am_sampling;

/* A language model: embedding, blocks, norm, and a head that shares the embedding's weights. */
typedef struct {
  int width, vocabulary, blocks;
  float eps;
  int int8;
  const float *embedding, *norm; /* (vocabulary, width), (width) */
  const am_block* block;         /* blocks of them */
} am_language;

typedef struct am_model am_model;

/* NULL where a size is not supported; am_error() says which. */
am_model* am_transcriber_new(const am_transcriber* weights);
/* The next block of a transcriber that was made without; it is used once it has all of them, and not
   before. So the float32 weights of one block alone have to be there at a time. 0 where its sizes are
   not supported, or there are `blocks` already. */
int am_transcriber_add(am_model* model, const am_block* block);
am_model* am_wave_new(const am_wave* weights);
am_model* am_language_new(const am_language* weights);
void am_free(am_model* model);
const char* am_error(void);

/* Instruction set in use: "avx512", "avx2" or "plain". $AUDIOMAMBA_INSTRUCTION_SET picks a lesser one. */
const char* am_instruction_set(void);

/* Floats of one session's state; all zeros is the state before the first frame. */
size_t am_state_floats(const am_model* model);

/* features (sessions, 4 * frames, bins); states[i]: am_state_floats() floats, advanced in place;
   log_probs (sessions, frames, vocabulary + ends): of the pieces, then that each of the ends is so. Several
   threads may share a model, on different states. */
void am_transcribe(const am_model* model, const float* features, int sessions, int frames, float* const* states,
                   float* log_probs);

/* Waveform models. A state begins with its position, then its condition, which the caller may set.
   codes (streams, samples); logits (streams, samples, 256), or NULL. */
void am_wave_feed(am_model* model, const unsigned char* codes, int streams, int samples, float* const* states,
                  float* logits);

/* Draws `samples` classes of each stream into out (streams, samples). last (streams): the class before
   the first, overwritten by the last. Seeds and the index of each stream's first sample fix all chance.
   With guidance other than 1, states are twice as many: the second half runs without a condition. */
void am_wave_draw(am_model* model, const am_sampling* how, unsigned char* last, int streams, int samples,
                  float* const* states, const unsigned long long* seeds, const unsigned long long* first,
                  unsigned char* out);

/* A piece each of `count` texts: states[i] advances by pieces[i]; log_probs (count, vocabulary) are those of
   the piece after it. Several threads may share a model, on different states. */
void am_language_next(const am_model* model, const int* pieces, int count, float* const* states, float* log_probs);

/* A tensor over (rows, steps, channels), or groups of channels: its first float, and how many floats on
   the next one of each axis is. `at` is NULL where a thing is not given. */
typedef struct {
  float* at;
  long long row, step, channel;
} am_sequence;

/* The selective scan over whole sequences; kernels/scan/README.md has the equations. What is no
   am_sequence is packed. NULL where a thing is not given. */
typedef struct {
  long long rows, steps, channels;
  int groups, states, softplus, reverse, threads;
  am_sequence u, delta, z;
  am_sequence B, C; /* over groups; the states of a group lie one after the other */
  const float *A, *D, *delta_bias; /* (channels, states), (channels) */
  const float* initial;            /* (rows, channels, states) */
  const unsigned char* resets;     /* (rows, steps) */
  /* Written by the forward and read by the backward, or NULL: states before every 16th step, in an order
     of the library's own. A row of them is so many floats: steps / 16 rounded up, times states, times
     the channels of a group rounded up to 16, times groups. */
  float* checkpoints;
  long long checkpoint_row;
} am_scan;

/* Shapes as of what they are gradients of; dB and dC (rows, steps, groups, states); dA, dD and dbias a
   row each. */
typedef struct {
  am_sequence dout, du, ddelta, dz;
  const float* dlast;
  float *dA, *dB, *dC, *dD, *dbias, *dinitial;
} am_scan_gradients;

void am_scan_forward(const am_scan* call, const am_sequence* out, float* last);
void am_scan_backward(const am_scan* call, const am_scan_gradients* gradients);

/* The causal convolution over whole sequences; kernels/conv/README.md has the equation. `at` and pointers
   are NULL where a thing is not given. */
typedef struct {
  long long rows, steps, channels;
  int taps, silu, reverse, threads;
  am_sequence x, initial;        /* initial: (rows, taps - 1, channels), as the last state */
  const float *weight, *bias;    /* (channels, taps), (channels) */
  const unsigned char* resets;   /* (rows, steps) */
} am_conv;

/* Shapes as of what they are gradients of; dweight and dbias a row each. */
typedef struct {
  am_sequence dy, dlast, dx, dinitial;
  float *dweight, *dbias;
} am_conv_gradients;

void am_conv_forward(const am_conv* call, const am_sequence* out, const am_sequence* last);
void am_conv_backward(const am_conv* call, const am_conv_gradients* gradients);

/* A sampled time-invariant system over whole sequences; kernels/lti/README.md has the equations. a, b and
   c: (channels, pairs, 2), real and imaginary part last. */
typedef struct {
  long long rows, steps, channels;
  int pairs, threads;
  am_sequence u;
  const double* a;
  const float *b, *c, *skip;   /* skip (channels) */
  const float* initial;        /* (rows, channels, pairs, 2) */
  const unsigned char* resets; /* (rows, steps) */
} am_lti;

/* Shapes as of what they are gradients of; da, db, dc and dskip a row each. */
typedef struct {
  am_sequence dy, du;
  const float* dlast;
  double *da, *db, *dc, *dskip;
  float* dinitial;
} am_lti_gradients;

void am_lti_forward(const am_lti* call, const am_sequence* out, float* last);
void am_lti_backward(const am_lti* call, const am_lti_gradients* gradients);

/* The columns of a language model (audiomamba/text/ngram.py), which stay where they are. With codes,
   values are looked up by them: 256 of them. */
typedef struct {
  const void *keys, *suffixes; /* int64 where `wide`, else int32 */
  const unsigned char *has_children, *log_prob_codes, *backoff_codes; /* bits; codes may be NULL */
  const float *log_probs, *backoffs;
  long long nodes, start;
  int wide, vocabulary;
} am_ngrams;

/* Fills suffixes (nodes + 1) of a model's keys (nodes), all int64 where `wide`, else int32. */
void am_ngrams_link(const void* keys, long long nodes, int wide, int vocabulary, void* suffixes);

typedef struct {
  double weight, neural_weight, piece_margin, margin;
  int beam, candidates;
} am_beam_config;

/* A piece of a hypothesis; depth counts from the start of the utterance. */
typedef struct {
  int piece, first, last, depth;
  double score;
} am_heard;

typedef struct {
  int node;
  long long context;
  double blank, piece, fused;
} am_hypothesis;

typedef struct am_beam am_beam;

/* The beam search of one stream; see audiomamba/text/beam.py. `language`, which stays where it is, is
   NULL where n-grams alone rank; bonus (vocabulary) is added for each piece. */
am_beam* am_beam_new(const am_ngrams* model, const am_model* language, const am_beam_config* config,
                     const double* bonus);
void am_beam_free(am_beam* beam);
void am_beam_restart(am_beam* beam);
void am_beam_rest(am_beam* beam);
void am_beam_step(am_beam* beam, const double* log_probs, int frame); /* (vocabulary) */
int am_beam_empty(const am_beam* beam);
int am_beam_last_heard(const am_beam* beam);
int am_beam_path(const am_beam* beam, am_heard* out, int room); /* of the best; returns its length */
int am_beam_shared(const am_beam* beam);
void am_beam_keep_only(am_beam* beam, int depth);
void am_beam_settle(am_beam* beam, int depth);
/* Up to `room` nodes with their parents' places, and hypotheses; returns how many nodes there are. */
int am_beam_save(const am_beam* beam, am_heard* nodes, int* parents, int room, am_hypothesis* tips, int* tip_count);
/* Pieces of the utterance that led to the root, it included; returns how many there are. */
int am_beam_said(const am_beam* beam, int* pieces, int room);
void am_beam_load(am_beam* beam, const am_heard* nodes, const int* parents, int count, const am_hypothesis* tips,
                  int tip_count, const int* said, int said_count);

#ifdef __cplusplus
}
#endif
#endif
