// Aligned arrays that own their memory.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace AM_ISA {

template <typename T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t n) : size_(n) {
    if (posix_memalign(reinterpret_cast<void**>(&data_), 64, n * sizeof(T) + 64)) throw std::bad_alloc();
    memset(data_, 0, n * sizeof(T) + 64);  // slack: vectors may read past the last element
  }
  Array(const T* source, size_t n) : Array(n) { memcpy(data_, source, n * sizeof(T)); }
  Array(Array&& other) noexcept { *this = std::move(other); }
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { free(data_); }

  T* get() { return data_; }
  const T* get() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return size_; }

  // Keep at least n elements; contents are lost when it grows.
  void reserve(size_t n) {
    if (n > size_) *this = Array(n);
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace AM_ISA
