#pragma once

#include "audiomamba.h"

struct Engine {
  void* (*create)(const am_transcriber*);
  void (*destroy)(void*);
  size_t (*state_floats)(const void*);
  void (*transcribe)(void*, const float*, int, int, float* const*, float*);
};
