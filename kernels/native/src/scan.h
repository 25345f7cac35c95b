// The selective scan over whole sequences, forward and backward: audiomamba/kernels/scan/README.md has
// the equations. Sixteen channels or fewer in the lanes, PIECE steps at a time: a piece's step sizes,
// gates and sums lie in L1, a state walks through all of it in a register, then the next state does.
//
// The forward keeps the states before every piece. The backward goes from the last piece to the first
// and makes a piece's states and decays anew from the kept ones. Gradients of B and C are sums over
// channels: a piece is walked for one tile of channels after the other, lanes are added once at its
// end, so a result does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "sequence.h"

namespace AM_ISA {

constexpr int MOST_STATES = 256;

template <int FIXED>
class Scan {
 public:
  explicit Scan(const am_scan& call)
      : s_(call), N(FIXED ? FIXED : call.states), T(call.steps), E(call.channels / call.groups),
        pieces_((T + PIECE - 1) / PIECE), tiles_(call.groups * ((E + LANES - 1) / LANES)) {}

  int64_t items() const { return s_.rows * tiles_; }

  // Tiles `from` to `to` of all rows' tiles, row after row.
  void forward(int64_t from, int64_t to, const am_sequence& out, float* last) const {
    vf H[SIZE], A[SIZE], y[PIECE];
    Piece piece;
    for (int64_t item = from; item < to; item++) {
      const int64_t row = item / tiles_, tile = item % tiles_;
      const Place place = at(tile);
      if (s_.checkpoints && tile == tiles_ - 1)  // what narrower vectors leave over
        std::fill(kept(row, pieces_, 0), s_.checkpoints + (row + 1) * s_.checkpoint_row, 0.0f);
      rates(A, place);
      begin(H, row, place);
      for (int64_t p = 0; p < pieces_; p++) {
        if (s_.checkpoints) std::copy_n(reinterpret_cast<float*>(H), N * LANES, kept(row, p, tile));
        const Window window = part(row, p, place, PIECE, 0);
        take(piece, window, place, A);
        const vf skip = vector(s_.D, place);
        for (int k = 0; k < window.length; k++) y[k] = skip * piece.u[k];
        if (piece.tame)
          advance<true>(H, A, y, piece, window.length);
        else
          advance<false>(H, A, y, piece, window.length);
        if (s_.z.at) {
          vf gate[PIECE];
          read(gate, s_.z, window);
          for (int k = 0; k < window.length; k++) y[k] *= gate[k] * sigmoid(gate[k]);
        }
        write(y, out, window);
      }
      scatter(H, last + (row * s_.channels + place.c) * N, N, place.width);
    }
  }

  // Rows `from` to `to`. Gradients of A, D and the bias are a row's own: (rows, channels, states) and
  // (rows, channels). dlast and dinitial, as the states, and what belongs to an absent input, may be NULL.
  void backward(int64_t from, int64_t to, const am_scan_gradients& d) const {
    std::vector<vf> memory(static_cast<size_t>(tiles_) * (2 * N + 2) + 2 * PIECE * N);
    Sums sums;
    sums.dB = memory.data(), sums.dC = sums.dB + PIECE * N, sums.carry = sums.dC + PIECE * N;
    sums.dA = sums.carry + tiles_ * N, sums.dD = sums.dA + tiles_ * N, sums.dbias = sums.dD + tiles_;
    for (int64_t row = from; row < to; row++) {
      std::fill_n(sums.carry, tiles_ * (2 * N + 2), splat(0.0f));
      if (d.dlast)
        for (int64_t tile = 0; tile < tiles_; tile++)
          gather(sums.carry + tile * N, d.dlast + (row * s_.channels + at(tile).c) * N, N, at(tile).width);
      for (int64_t p = pieces_ - 1; p >= 0; p--)
        for (int group = 0; group < s_.groups; group++) {
          std::fill_n(sums.dB, 2 * PIECE * N, splat(0.0f));
          const int64_t tiles = tiles_ / s_.groups;
          for (int64_t tile = group * tiles; tile < (group + 1) * tiles; tile++) walk_back(d, row, p, tile, sums);
          const Window window = part(row, p, at(group * tiles), 0, 0);
          for (int k = 0; k < window.length; k++) {
            const int64_t to = ((row * T + window.time(k)) * s_.groups + group) * N;
            sum_lanes(sums.dB + k, PIECE, d.dB + to, N);
            sum_lanes(sums.dC + k, PIECE, d.dC + to, N);
          }
        }
      for (int64_t tile = 0; tile < tiles_; tile++) {
        const Place place = at(tile);
        const int64_t to = row * s_.channels + place.c;
        scatter(sums.dA + tile * N, d.dA + to * N, N, place.width);
        scatter(sums.dD + tile, d.dD + to, 1, place.width);
        scatter(sums.dbias + tile, d.dbias + to, 1, place.width);
        if (d.dinitial) scatter(sums.carry + tile * N, d.dinitial + to * N, N, place.width);
      }
    }
  }

 private:
  static constexpr int SIZE = FIXED ? FIXED : MOST_STATES;

  struct Place {
    int64_t c, group;
    int width;
  };

  // A row's, in vectors: sums of this piece, (states, PIECE); and of each tile, (tiles, states) or (tiles).
  struct Sums {
    vf *dB, *dC, *carry, *dA, *dD, *dbias;
  };

  // Steps of one tile, in the order of the recurrence.
  struct Piece {
    const float *b[PIECE], *c[PIECE];
    vi kept[PIECE];  // no bit set where a sequence starts
    vf u[PIECE], dt[PIECE], x[PIECE], slope[PIECE];  // x: u dt; slope: of dt by what softplus is of
    bool tame;  // nothing starts here, and no decay is beyond what the exponential does without bounds
  };

  Place at(int64_t tile) const {
    const int64_t tiles = tiles_ / s_.groups, group = tile / tiles, c = tile % tiles * LANES;
    return {group * E + c, group, static_cast<int>(std::min<int64_t>(LANES, E - c))};
  }

  Window part(int64_t row, int64_t p, const Place& place, int next_steps, int next_channels) const {
    const int length = static_cast<int>(std::min<int64_t>(PIECE, T - p * PIECE));
    return {row, p * PIECE, T, place.c, length, place.width, s_.reverse != 0, next_steps, next_channels};
  }

  float* kept(int64_t row, int64_t p, int64_t tile) const {
    return s_.checkpoints + row * s_.checkpoint_row + (p * tiles_ + tile) * N * LANES;
  }

  vf vector(const float* x, const Place& place) const {
    vf to = splat(0.0f);
    if (x) gather(&to, x + place.c, 1, place.width);
    return to;
  }

  // A, for a power of two in place of e. One rounding more, which a state forgets as fast as it adds up.
  void rates(vf* A, const Place& place) const {
    gather(A, s_.A + place.c * N, N, place.width);
    for (int n = 0; n < N; n++) A[n] *= splat(LOG2E);
  }

  void begin(vf* H, int64_t row, const Place& place) const {
    if (s_.initial)
      gather(H, s_.initial + (row * s_.channels + place.c) * N, N, place.width);
    else
      std::fill_n(H, N, splat(0.0f));
  }

  void take(Piece& piece, const Window& window, const Place& place, const vf* A) const {
    read(piece.u, s_.u, window);
    read(piece.dt, s_.delta, window);
    const vf bias = vector(s_.delta_bias, place);
    vf largest = splat(0.0f), fastest = splat(0.0f);
    piece.tame = true;
    for (int k = 0; k < window.length; k++) {
      const int64_t t = window.time(k);
      piece.b[k] = s_.B.at + window.row * s_.B.row + t * s_.B.step + place.group * s_.B.channel;
      piece.c[k] = s_.C.at + window.row * s_.C.row + t * s_.C.step + place.group * s_.C.channel;
      const bool start = s_.resets && s_.resets[window.row * T + t];
      piece.kept[k] = start ? (vi){} : ~(vi){};
      piece.tame = piece.tame && !start;
      vf dt = piece.dt[k] + bias;
      piece.slope[k] = splat(1.0f);
      if (s_.softplus) {
        const vf e = exact_exp(dt < splat(0.0f) ? dt : -dt), whole = splat(1.0f) / (splat(1.0f) + e);
        piece.slope[k] = dt < splat(0.0f) ? e * whole : whole;
        dt = vmax(splat(0.0f), dt) + log1p01(e);
      }
      piece.dt[k] = dt;
      piece.x[k] = dt * piece.u[k];
      largest = vmax(largest, magnitude(dt));
    }
    for (int n = 0; n < N; n++) fastest = vmax(fastest, magnitude(A[n]));
    const vf most = largest * fastest;
    for (int lane = 0; lane < LANES; lane++) piece.tame = piece.tame && most[lane] < 120.0f;
  }

  // The states pass through a piece, y is added to.
  template <bool TAME>
  void advance(vf* H, const vf* A, vf* y, const Piece& piece, int length) const {
    constexpr int TOGETHER = 2;
    int n = 0;
    for (; n + TOGETHER <= N; n += TOGETHER) advance_some<TAME, TOGETHER>(H + n, A + n, y, piece, length, n);
    for (; n < N; n++) advance_some<TAME, 1>(H + n, A + n, y, piece, length, n);
  }

  template <bool TAME, int COUNT>
  AM_INLINE_MEMBER void advance_some(vf* H, const vf* A, vf* y, const Piece& piece, int length, int n) const {
    vf h[COUNT], a[COUNT];
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; i++) h[i] = H[i], a[i] = A[i];
    for (int k = 0; k < length; k++) {
      vf sum = y[k];
#pragma GCC unroll 4
      for (int i = 0; i < COUNT; i++) {
        if (!TAME) h[i] = (vf)((vi)h[i] & piece.kept[k]);
        h[i] = decay<TAME>(piece.dt[k] * a[i]) * h[i] + piece.x[k] * splat(piece.b[k][n + i]);
        sum += h[i] * splat(piece.c[k][n + i]);
      }
      y[k] = sum;
    }
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; i++) H[i] = h[i];
  }

  template <bool TAME>
  AM_INLINE_MEMBER static vf decay(vf x) {
    return TAME ? exact_exp2(x) : exact_exp2(vmin(splat(126.0f), vmax(splat(-126.0f), x)));
  }

  // What a piece's gradients are added up in.
  struct Back {
    vf A[SIZE], dy[PIECE], y[PIECE], dx[PIECE], ddt[PIECE];
  };

  void walk_back(const am_scan_gradients& d, int64_t row, int64_t p, int64_t tile, const Sums& sums) const {
    const Place place = at(tile);
    const Window window = part(row, p, place, 0, LANES);
    const int length = window.length;
    Piece piece;
    Back back;
    rates(back.A, place);
    take(piece, window, place, back.A);
    const vf skip = vector(s_.D, place);
    vf gate[PIECE], slope[PIECE], dout[PIECE];
    if (d.dout.at)
      read(dout, d.dout, window);
    else
      std::fill_n(dout, length, splat(0.0f));
    if (s_.z.at) read(gate, s_.z, window);
    for (int k = 0; k < length; k++) {
      back.dy[k] = dout[k];
      if (s_.z.at) {
        slope[k] = sigmoid(gate[k]);
        back.dy[k] *= gate[k] * slope[k];
      }
      back.y[k] = skip * piece.u[k];
      back.dx[k] = back.ddt[k] = splat(0.0f);
    }
    const float* before = kept(row, p, tile);
    if (piece.tame)
      walk_back<true>(back, piece, length, before, tile, sums);
    else
      walk_back<false>(back, piece, length, before, tile, sums);
    vf dskip = splat(0.0f), dbias = splat(0.0f);
    for (int k = 0; k < length; k++) {
      const vf u = piece.u[k];
      const vf ddt = (back.ddt[k] * splat(LN2) + back.dx[k] * u) * piece.slope[k];
      dbias += ddt;
      dskip += back.dy[k] * u;
      back.ddt[k] = ddt;
      back.dx[k] = back.dx[k] * piece.dt[k] + back.dy[k] * skip;
      if (s_.z.at) gate[k] = dout[k] * back.y[k] * slope[k] * (splat(1.0f) + gate[k] * (splat(1.0f) - slope[k]));
    }
    write(back.ddt, d.ddelta, window);
    write(back.dx, d.du, window);
    if (s_.z.at) write(gate, d.dz, window);
    sums.dD[tile] += dskip;
    sums.dbias[tile] += dbias;
  }

  template <bool TAME>
  void walk_back(Back& back, const Piece& piece, int length, const float* before, int64_t tile, const Sums& sums) const {
    constexpr int TOGETHER = 2;
    vf *carry = sums.carry + tile * N, *dA = sums.dA + tile * N;
    int n = 0;
    for (; n + TOGETHER <= N; n += TOGETHER)
      walk_back_some<TAME, TOGETHER>(back, piece, length, before + n * LANES, carry + n, dA + n, sums, n);
    for (; n < N; n++) walk_back_some<TAME, 1>(back, piece, length, before + n * LANES, carry + n, dA + n, sums, n);
  }

  template <bool TAME, int COUNT>
  AM_INLINE_MEMBER void walk_back_some(Back& back, const Piece& piece, int length, const float* before, vf* carries,
                                       vf* dAs, const Sums& sums, int n) const {
    vf a[COUNT], h[COUNT], decays[PIECE * COUNT], old[PIECE * COUNT];
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; i++) a[i] = back.A[n + i], h[i] = load(before + i * LANES);
    for (int k = 0; k < length; k++) {
      vf y = back.y[k], *dC = sums.dC + n * PIECE + k;
#pragma GCC unroll 4
      for (int i = 0; i < COUNT; i++) {
        if (!TAME) h[i] = (vf)((vi)h[i] & piece.kept[k]);
        old[k * COUNT + i] = h[i];
        const vf kept = decay<TAME>(piece.dt[k] * a[i]);
        decays[k * COUNT + i] = kept;
        h[i] = kept * h[i] + piece.x[k] * splat(piece.b[k][n + i]);
        y += h[i] * splat(piece.c[k][n + i]);
        dC[i * PIECE] += back.dy[k] * h[i];
      }
      back.y[k] = y;
    }
    vf carry[COUNT], dA[COUNT];
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; i++) carry[i] = carries[i], dA[i] = dAs[i];
    for (int k = length - 1; k >= 0; k--) {
      vf dx = back.dx[k], ddt = back.ddt[k], *dB = sums.dB + n * PIECE + k;
#pragma GCC unroll 4
      for (int i = 0; i < COUNT; i++) {
        const vf g = carry[i] + back.dy[k] * splat(piece.c[k][n + i]);  // of the state after the step
        dB[i * PIECE] += g * piece.x[k];
        dx += g * splat(piece.b[k][n + i]);
        carry[i] = decays[k * COUNT + i] * g;
        const vf q = carry[i] * old[k * COUNT + i];  // of the logarithm of the decay
        dA[i] += q * piece.dt[k];
        ddt += q * a[i];
        if (!TAME) carry[i] = (vf)((vi)carry[i] & piece.kept[k]);
      }
      back.dx[k] = dx, back.ddt[k] = ddt;
    }
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; i++) carries[i] = carry[i], dAs[i] = dA[i];
  }

  const am_scan& s_;
  const int N;
  const int64_t T, E, pieces_, tiles_;
};

}  // namespace AM_ISA
