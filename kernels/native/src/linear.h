// y = x W^T with W packed in panels of 16 outputs.
//
// Two forms. Float32. And int8 weights (one scale an output) with activations rounded to 14 bits
// as they come (one scale a row): products of pairs are summed by the multiply-add instruction in
// int32, which 14 + 8 bits cannot overflow up to 2064 inputs. Integer sums do not depend on the
// order, so a row's result does not depend on who else is in the batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "memory.h"
#include "vector.h"

namespace AM_ISA {

constexpr int PANEL = 16;
constexpr int PREFETCH_BYTES = 2048;  // ahead of the weights in use; past their end it is harmless
constexpr float ACTIVATION_MAX = 8191.0f;  // 14 bits with sign

// Rows of activations in the form that the weights want.
struct Rows {
  const float* x = nullptr;
  int stride = 0;
  Array<int16_t> q;
  Array<float> scale;
};

class Linear {
 public:
  Linear() = default;

  // weight (outputs, inputs) row-major float32; quantised to int8 where asked for.
  Linear(const float* weight, const float* bias, int outputs, int inputs, bool int8)
      : outputs_(outputs), inputs_(inputs), pairs_((inputs + 1) / 2), panels_((outputs + PANEL - 1) / PANEL) {
    bias_ = Array<float>(padded());
    if (bias) memcpy(bias_.get(), bias, outputs * sizeof(float));
#ifdef __AVX2__
    int8_ = int8;
#else
    (void)int8;  // without the multiply-add the float form is the faster one
#endif
    if (int8_) {
      pack_int8(weight);
    } else {
      float_ = Array<float>(static_cast<size_t>(panels_) * PANEL * inputs);
      for (int o = 0; o < outputs; o++)
        for (int i = 0; i < inputs; i++)
          float_[(static_cast<size_t>(o / PANEL) * inputs + i) * PANEL + o % PANEL] =
              weight[static_cast<size_t>(o) * inputs + i];
    }
  }

  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }
  int padded() const { return panels_ * PANEL; }  // columns written: outputs rounded up

  // Bring M rows of `inputs` floats into the form that `run` reads.
  void prepare(const float* x, int stride, int M, Rows& rows) const {
    rows.x = x;
    rows.stride = stride;
    if (!int8_) return;
    rows.q.reserve(static_cast<size_t>(M) * pairs_ * 2);
    rows.scale.reserve(M);
    for (int m = 0; m < M; m++) {
      const float* row = x + static_cast<size_t>(m) * stride;
      const float top = largest(row, inputs_);
      const float inverse = ACTIVATION_MAX / top;
      int16_t* q = rows.q.get() + static_cast<size_t>(m) * pairs_ * 2;
      round_to_int16(row, inverse, q);
      rows.scale[m] = top / ACTIVATION_MAX;
    }
  }

  // y (M, ldy) = rows W^T + bias, or += where `add`; ldy >= padded().
  void run(const Rows& rows, int M, float* y, int ldy, bool add = false) const {
    for (int p = 0; p < panels_; p++) {
      int m = 0;
#ifdef __AVX512VNNI__
      for (; m + 8 <= M; m += 8) tile<8>(rows, m, p, y, ldy, add);
#endif
      for (; m + 4 <= M; m += 4) tile<4>(rows, m, p, y, ldy, add);
      for (; m + 2 <= M; m += 2) tile<2>(rows, m, p, y, ldy, add);
      for (; m < M; m++) tile<1>(rows, m, p, y, ldy, add);
    }
  }

 private:
  static float largest(const float* x, int n) {
    vf top = splat(1e-12f);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      const vf v = load(x + i);
      top = vmax(top, vmax(v, -v));
    }
    float most = top[0];
    for (int l = 1; l < LANES; l++) most = std::max(most, top[l]);
    for (; i < n; i++) most = std::max(most, std::fabs(x[i]));
    return most;
  }

  // q_i = x_i * scale to the nearest integer; an odd last one is paired with zero.
  void round_to_int16(const float* x, float scale, int16_t* q) const {
    int i = 0;
#ifdef __AVX2__
    for (; i + 8 <= inputs_; i += 8) {
      const __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(scale)));
      const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), packed);
    }
#endif
    for (; i < inputs_; i++) q[i] = static_cast<int16_t>(std::lrintf(x[i] * scale));
    if (inputs_ % 2) q[inputs_] = 0;
  }

  void pack_int8(const float* weight) {
    packed_ = Array<int8_t>(static_cast<size_t>(panels_) * PANEL * pairs_ * 2);
    scale_ = Array<float>(padded());
    for (int o = 0; o < outputs_; o++) {
      const float* row = weight + static_cast<size_t>(o) * inputs_;
      const float top = largest(row, inputs_);
      scale_[o] = top / 127;
      for (int i = 0; i < inputs_; i++)
        packed_[((static_cast<size_t>(o / PANEL) * pairs_ + i / 2) * PANEL + o % PANEL) * 2 + i % 2] =
            static_cast<int8_t>(std::lrintf(row[i] / scale_[o]));
    }
  }

  template <int MR>
  AM_INLINE_MEMBER void tile(const Rows& rows, int m, int p, float* y, int ldy, bool add) const {
    vf out[MR][PANEL / LANES];
#ifdef __AVX2__
    if (int8_)
      sums_int8<MR>(rows, m, p, out);
    else
#endif
      sums_float<MR>(rows, m, p, out);
    const float* bias = bias_.get() + p * PANEL;
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
      for (int v = 0; v < PANEL / LANES; v++) {
        float* to = y + static_cast<size_t>(m + r) * ldy + p * PANEL + v * LANES;
        vf value = out[r][v] + load(bias + v * LANES);
        store(to, add ? load(to) + value : value);
      }
  }

  template <int MR>
  AM_INLINE_MEMBER void sums_float(const Rows& rows, int m, int p, vf (&out)[MR][PANEL / LANES]) const {
    constexpr int VECTORS = PANEL / LANES;
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) out[r][v] = splat(0.0f);
    const float* w = float_.get() + static_cast<size_t>(p) * PANEL * inputs_;
    const float* x = rows.x + static_cast<size_t>(m) * rows.stride;
    for (int i = 0; i < inputs_; i++, w += PANEL)
#pragma GCC unroll 8
      for (int r = 0; r < MR; r++) {
        vf a = splat(x[static_cast<size_t>(r) * rows.stride + i]);
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) out[r][v] += a * load(w + v * LANES);
      }
  }

#ifdef __AVX512VNNI__
  // A panel is a register: an instruction multiplies a pair of a row with it and adds both products.
  // A sum waits for the one before, so rows have several of them, of every second (fourth, ...) pair;
  // integers add up to the same in any order.
  template <int MR>
  AM_INLINE_MEMBER void sums_int8(const Rows& rows, int m, int p, vf (&out)[MR][1]) const {
    constexpr int WAYS = 16 / MR;
    __m512i sums[WAYS][MR];
#pragma GCC unroll 16
    for (int k = 0; k < WAYS; k++)
#pragma GCC unroll 16
      for (int r = 0; r < MR; r++) sums[k][r] = _mm512_setzero_si512();
    const int8_t* w = packed_.get() + static_cast<size_t>(p) * PANEL * pairs_ * 2;
    const int16_t* x = rows.q.get() + static_cast<size_t>(m) * pairs_ * 2;
    int i = 0;
    for (; i + WAYS <= pairs_; i += WAYS)
#pragma GCC unroll 16
      for (int k = 0; k < WAYS; k++) add_pair<MR>(w, x, i + k, k, sums[k]);
    for (; i < pairs_; i++) add_pair<MR>(w, x, i, 1, sums[0]);
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++) {
      __m512i total = sums[0][r];
#pragma GCC unroll 16
      for (int k = 1; k < WAYS; k++) total = _mm512_add_epi32(total, sums[k][r]);
      out[r][0] = (vf)_mm512_cvtepi32_ps(total) * (load(scale_.get() + p * PANEL) * splat(rows.scale[m + r]));
    }
  }

  template <int MR>
  AM_INLINE_MEMBER void add_pair(const int8_t* w, const int16_t* x, int i, int k, __m512i (&sums)[MR]) const {
    const int8_t* at = w + static_cast<size_t>(i) * 2 * PANEL;
    if (k % 2 == 0) __builtin_prefetch(at + PREFETCH_BYTES);
    const __m512i weights = _mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++) {
      // Pinned: left to itself the compiler moves every sum to another register and back.
      typedef int32_t __attribute__((may_alias)) pair;
      const pair& a = *reinterpret_cast<const pair*>(x + static_cast<size_t>(r) * pairs_ * 2 + 2 * i);
      asm("vpdpwssd %2%{1to16%},%1,%0" : "+v"(sums[r]) : "v"(weights), "m"(a));
    }
  }
#elif defined(__AVX2__)
  // The addition is pinned: left to itself the compiler spills the sums (1.5x slower, measured).
  AM_INLINE void accumulate(__m256i& sum, __m256i term) { asm("vpaddd %1,%0,%0" : "+x"(sum) : "x"(term)); }

  template <int MR>
  AM_INLINE_MEMBER void sums_int8(const Rows& rows, int m, int p, vf (&out)[MR][PANEL / LANES]) const {
    __m256i sums[MR][2];
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    const int8_t* w = packed_.get() + static_cast<size_t>(p) * PANEL * pairs_ * 2;
    const int16_t* x = rows.q.get() + static_cast<size_t>(m) * pairs_ * 2;
    for (int i = 0; i < pairs_; i++, w += 2 * PANEL) {
      // The hardware's own stream stops at each page; a few rows alone wait for memory without this.
      __builtin_prefetch(w + PREFETCH_BYTES);
      const __m256i low = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(w)));
      const __m256i high = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(w + 16)));
#pragma GCC unroll 8
      for (int r = 0; r < MR; r++) {
        int32_t pair;
        memcpy(&pair, x + static_cast<size_t>(r) * pairs_ * 2 + 2 * i, 4);
        const __m256i a = _mm256_set1_epi32(pair);
        accumulate(sums[r][0], _mm256_madd_epi16(a, low));
        accumulate(sums[r][1], _mm256_madd_epi16(a, high));
      }
    }
    // Unrolled here too: one index that is not a constant would put all the sums on the stack.
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
      for (int v = 0; v < 2; v++) {
        vf scale = load(scale_.get() + p * PANEL + v * LANES) * splat(rows.scale[m + r]);
        out[r][v] = (vf)_mm256_cvtepi32_ps(sums[r][v]) * scale;
      }
  }
#endif

  int outputs_ = 0, inputs_ = 0, pairs_ = 0, panels_ = 0;
  bool int8_ = false;
  Array<float> float_, bias_, scale_;
  Array<int8_t> packed_;
};

}  // namespace AM_ISA
