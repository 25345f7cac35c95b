// Time-invariant systems over whole sequences, forward and backward: audiomamba/kernels/lti/README.md has
// the equations. The recurrence itself, in double precision: rounding adds up over the steps that a state
// lives, and float32 is off by 4e-6 after a thousand.
//
// Channels in the lanes, PIECE steps at a time: a pair's state walks through the piece in registers, then
// the next pair's does. The backward first keeps the states before every piece, then goes from the last
// piece to the first and makes a piece's states anew from the kept ones.
#pragma once

#include <algorithm>
#include <vector>

#include "sequence.h"

namespace AM_ISA {

typedef double vd __attribute__((vector_size(BYTES)));
typedef int64_t vl __attribute__((vector_size(BYTES)));
constexpr int HALF = LANES / 2;

// A vector's channels in double precision: two vectors.
struct Wide {
  vd v[2];
};

AM_INLINE Wide widen(vf x) {
  typedef float half __attribute__((vector_size(BYTES / 2)));
  half parts[2];
  memcpy(parts, &x, BYTES);
  return {{__builtin_convertvector(parts[0], vd), __builtin_convertvector(parts[1], vd)}};
}

AM_INLINE vf narrow(const Wide& x) {
  typedef float half __attribute__((vector_size(BYTES / 2)));
  const half parts[2] = {__builtin_convertvector(x.v[0], half), __builtin_convertvector(x.v[1], half)};
  vf to;
  memcpy(&to, parts, BYTES);
  return to;
}

// A complex number a channel.
struct Pair {
  Wide re, im;
};

class Lti {
 public:
  explicit Lti(const am_lti& call)
      : s_(call), N(call.pairs), T(call.steps), tiles_((call.channels + LANES - 1) / LANES),
        pieces_((T + PIECE - 1) / PIECE) {}

  int64_t items() const { return s_.rows * tiles_; }

  // Rows `from` to `to` of all tiles' rows, tile after tile: those of a tile share its system.
  void forward(int64_t from, int64_t to, const am_sequence& out, float* last) const {
    std::vector<Pair> memory(4 * static_cast<size_t>(N));
    System system = {memory.data(), memory.data() + N, memory.data() + 2 * N, {}};
    Pair* H = memory.data() + 3 * N;
    for (int64_t item = from; item < to; item++) {
      Window at = place(item, PIECE, 0);
      if (item == from || at.row == 0) take(system, at);
      begin(H, at);
      for (; at.first < T; at.first += PIECE) {
        Piece piece;
        take(piece, at);
        Wide y[PIECE];
        for (int k = 0; k < at.length; k++)
          for (int i = 0; i < 2; i++) y[k].v[i] = system.skip.v[i] * piece.u[k].v[i];
        for (int n = 0; n < N; n++)
          if (piece.tame)
            advance<true>(H[n], system, n, piece, at.length, y);
          else
            advance<false>(H[n], system, n, piece, at.length, y);
        vf rounded[PIECE];
        for (int k = 0; k < at.length; k++) rounded[k] = narrow(y[k]);
        write(rounded, out, at);
      }
      put(H, last + state(at), at.width);
    }
  }

  void backward(int64_t from, int64_t to, const am_lti_gradients& d) const {
    std::vector<Pair> memory(static_cast<size_t>(N) * (8 + pieces_));
    Pair* at_first = memory.data();
    System system = {at_first, at_first + N, at_first + 2 * N, {}};
    Sums sums = {at_first + 3 * N, at_first + 4 * N, at_first + 5 * N, at_first + 6 * N};
    Pair *H = at_first + 7 * N, *kept = at_first + 8 * N;
    for (int64_t item = from; item < to; item++) {
      Window at = place(item, PIECE, 0);
      if (item == from || at.row == 0) take(system, at);
      begin(H, at);
      for (int64_t p = 0; p < pieces_; p++, at.first += PIECE) {
        std::copy_n(H, N, kept + p * N);
        if (p == pieces_ - 1) break;
        Piece piece;
        take(piece, at);
        for (int n = 0; n < N; n++)
          if (piece.tame)
            pass<true>(H[n], system, n, piece, at.length);
          else
            pass<false>(H[n], system, n, piece, at.length);
      }
      std::fill_n(sums.carry, N, Pair{});
      std::fill_n(sums.da, N, Pair{});
      std::fill_n(sums.db, N, Pair{});
      std::fill_n(sums.dc, N, Pair{});
      Wide dskip = {};
      if (d.dlast) get(sums.carry, d.dlast + state(at), at.width);
      at.next_steps = -PIECE;
      for (int64_t p = pieces_ - 1; p >= 0; p--) {
        at.first = p * PIECE;
        Piece piece;
        take(piece, at);
        vf dout[PIECE];
        read(dout, d.dy, at);
        Wide dy[PIECE], du[PIECE];
        for (int k = 0; k < at.length; k++) {
          dy[k] = widen(dout[k]);
          for (int i = 0; i < 2; i++) {
            du[k].v[i] = system.skip.v[i] * dy[k].v[i];
            dskip.v[i] += dy[k].v[i] * piece.u[k].v[i];
          }
        }
        for (int n = 0; n < N; n++)
          if (piece.tame)
            walk_back<true>(kept[p * N + n], system, sums, n, piece, at.length, dy, du);
          else
            walk_back<false>(kept[p * N + n], system, sums, n, piece, at.length, dy, du);
        for (int k = 0; k < at.length; k++) dout[k] = narrow(du[k]);
        write(dout, d.du, at);
      }
      put(sums.carry, d.dinitial + state(at), at.width);
      put(sums.da, d.da + state(at), at.width);
      put(sums.db, d.db + state(at), at.width);
      put(sums.dc, d.dc + state(at), at.width);
      for (int lane = 0; lane < at.width; lane++)
        d.dskip[at.row * s_.channels + at.c + lane] = dskip.v[lane / HALF][lane % HALF];
    }
  }

 private:
  struct System {
    Pair *a, *b, *c;
    Wide skip;
  };

  struct Sums {
    Pair *carry, *da, *db, *dc;
  };

  struct Piece {
    Wide u[PIECE];
    vl kept[PIECE];  // no bit set where a sequence starts
    bool tame;       // nothing starts here
  };

  Window place(int64_t item, int next_steps, int next_channels) const {
    const int64_t c = item / s_.rows * LANES;
    const int width = static_cast<int>(std::min<int64_t>(LANES, s_.channels - c));
    return {item % s_.rows, 0, T, c, 0, width, false, next_steps, next_channels};
  }

  int64_t state(const Window& at) const { return (at.row * s_.channels + at.c) * N * 2; }

  void begin(Pair* H, const Window& at) const {
    if (s_.initial)
      get(H, s_.initial + state(at), at.width);
    else
      std::fill_n(H, N, Pair{});
  }

  void take(System& system, const Window& at) const {
    get(system.a, s_.a + at.c * N * 2, at.width);
    get(system.b, s_.b + at.c * N * 2, at.width);
    get(system.c, s_.c + at.c * N * 2, at.width);
    system.skip = {};
    for (int lane = 0; s_.skip && lane < at.width; lane++)
      system.skip.v[lane / HALF][lane % HALF] = s_.skip[at.c + lane];
  }

  void take(Piece& piece, Window& at) const {
    at.length = static_cast<int>(std::min<int64_t>(PIECE, T - at.first));
    vf u[PIECE];
    read(u, s_.u, at);
    piece.tame = true;
    for (int k = 0; k < at.length; k++) {
      piece.u[k] = widen(u[k]);
      const bool start = s_.resets && s_.resets[at.row * T + at.time(k)];
      piece.kept[k] = start ? (vl){} : ~(vl){};
      piece.tame = piece.tame && !start;
    }
  }

  // Between (channels, pairs, 2) in memory and vectors of channels.
  template <typename Float>
  void get(Pair* to, const Float* from, int width) const {
    for (int n = 0; n < N; n++) {
      double lanes[2][LANES] = {};
      for (int lane = 0; lane < width; lane++)
        for (int part = 0; part < 2; part++) lanes[part][lane] = from[(lane * N + n) * 2 + part];
      memcpy(&to[n], lanes, sizeof(Pair));
    }
  }

  template <typename Float>
  void put(const Pair* from, Float* to, int width) const {
    for (int n = 0; n < N; n++) {
      double lanes[2][LANES];
      memcpy(lanes, &from[n], sizeof(Pair));
      for (int lane = 0; lane < width; lane++)
        for (int part = 0; part < 2; part++) to[(lane * N + n) * 2 + part] = static_cast<Float>(lanes[part][lane]);
    }
  }

  template <bool TAME>
  AM_INLINE_MEMBER static void forget(Pair& h, const Piece& piece, int k) {
    if (TAME) return;
    for (int i = 0; i < 2; i++) {
      h.re.v[i] = (vd)((vl)h.re.v[i] & piece.kept[k]);
      h.im.v[i] = (vd)((vl)h.im.v[i] & piece.kept[k]);
    }
  }

  AM_INLINE_MEMBER static void step(Pair& h, const Pair& a, const Pair& b, const Wide& u) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
      const vd re = h.re.v[i], im = h.im.v[i];
      h.re.v[i] = a.re.v[i] * re + (b.re.v[i] * u.v[i] - a.im.v[i] * im);
      h.im.v[i] = a.re.v[i] * im + (b.im.v[i] * u.v[i] + a.im.v[i] * re);
    }
  }

  template <bool TAME>
  AM_INLINE_MEMBER void pass(Pair& H, const System& system, int n, const Piece& piece, int length) const {
    const Pair a = system.a[n], b = system.b[n];
    Pair h = H;
    for (int k = 0; k < length; k++) {
      forget<TAME>(h, piece, k);
      step(h, a, b, piece.u[k]);
    }
    H = h;
  }

  template <bool TAME>
  AM_INLINE_MEMBER void advance(Pair& H, const System& system, int n, const Piece& piece, int length, Wide* y) const {
    const Pair a = system.a[n], b = system.b[n];
    Pair c = system.c[n], h = H;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) c.re.v[i] += c.re.v[i], c.im.v[i] += c.im.v[i];
    for (int k = 0; k < length; k++) {
      forget<TAME>(h, piece, k);
      step(h, a, b, piece.u[k]);
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) y[k].v[i] += c.re.v[i] * h.re.v[i] - c.im.v[i] * h.im.v[i];
    }
    H = h;
  }

  template <bool TAME>
  AM_INLINE_MEMBER void walk_back(const Pair& first, const System& system, const Sums& sums, int n, const Piece& piece,
                                  int length, const Wide* dy, Wide* du) const {
    const Pair a = system.a[n], b = system.b[n], c = system.c[n];
    Pair h = first, old[PIECE], dc = {};
    for (int k = 0; k < length; k++) {
      forget<TAME>(h, piece, k);
      old[k] = h;
      step(h, a, b, piece.u[k]);
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        dc.re.v[i] += h.re.v[i] * dy[k].v[i];
        dc.im.v[i] -= h.im.v[i] * dy[k].v[i];
      }
    }
    Pair carry = sums.carry[n], da = sums.da[n], db = sums.db[n];
    for (int k = length - 1; k >= 0; k--) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        const vd twice = dy[k].v[i] + dy[k].v[i], u = piece.u[k].v[i];
        const vd re = carry.re.v[i] + c.re.v[i] * twice, im = carry.im.v[i] - c.im.v[i] * twice;  // of h
        da.re.v[i] += re * old[k].re.v[i] + im * old[k].im.v[i];
        da.im.v[i] += im * old[k].re.v[i] - re * old[k].im.v[i];
        db.re.v[i] += re * u;
        db.im.v[i] += im * u;
        du[k].v[i] += re * b.re.v[i] + im * b.im.v[i];
        carry.re.v[i] = a.re.v[i] * re + a.im.v[i] * im;
        carry.im.v[i] = a.re.v[i] * im - a.im.v[i] * re;
      }
      forget<TAME>(carry, piece, k);
    }
    sums.carry[n] = carry, sums.da[n] = da, sums.db[n] = db;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
      sums.dc[n].re.v[i] += dc.re.v[i] + dc.re.v[i];
      sums.dc[n].im.v[i] += dc.im.v[i] + dc.im.v[i];
    }
  }

  const am_lti& s_;
  const int N;
  const int64_t T, tiles_, pieces_;
};

}  // namespace AM_ISA
