#pragma once

#include <cstdint>

#include "audiomamba.h"

struct Engine {
  void* (*new_transcriber)(const am_transcriber*);
  bool (*add_block)(void*, const am_block*);
  void* (*new_wave)(const am_wave*);
  void* (*new_language)(const am_language*);
  void (*destroy)(void*);
  size_t (*state_floats)(const void*);
  void (*transcribe)(const void*, const float*, int, int, float* const*, float*);
  void (*feed)(void*, const uint8_t*, int, int, float* const*, float*);
  void (*draw)(void*, const am_sampling*, uint8_t*, int, int, float* const*, const uint64_t*, const uint64_t*, uint8_t*);
  void (*next)(const void*, const int*, int, float* const*, float*);
  int64_t (*scan_items)(const am_scan&);  // parts that a forward can be shared out in
  void (*scan_forward)(const am_scan&, int64_t, int64_t, const am_sequence&, float*);
  void (*scan_backward)(const am_scan&, int64_t, int64_t, const am_scan_gradients&);
  int64_t (*conv_items)(const am_conv&);
  void (*conv_forward)(const am_conv&, int64_t, int64_t, const am_sequence&, const am_sequence&);
  void (*conv_backward)(const am_conv&, int64_t, int64_t, const am_conv_gradients&);
  int64_t (*lti_items)(const am_lti&);
  void (*lti_forward)(const am_lti&, int64_t, int64_t, const am_sequence&, float*);
  void (*lti_backward)(const am_lti&, int64_t, int64_t, const am_lti_gradients&);
};
