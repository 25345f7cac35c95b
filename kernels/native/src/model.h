// What every model of the engine has: a state of constant size a stream, all zeros at the start.
#pragma once

#include <cstddef>

namespace AM_ISA {

struct Model {
  virtual ~Model() = default;
  virtual size_t state_floats() const = 0;
};

}  // namespace AM_ISA
