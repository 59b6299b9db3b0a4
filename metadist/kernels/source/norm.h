// Batch normalisation, ReLU and perhaps a 2x2 max-pool as one operation, and its derivative. Per channel,
// mean(.) over all M positions of all examples:
//
//   x = (y - mean y) r        r = (mean (y - mean y)^2 + eps)^(-1/2)      z = pool max(0, gamma x + beta)
//   dy = gamma r (g - mean g - x mean(x g))       dgamma = sum x g        dbeta = sum g
//
// where g is dz, handed to the position that the pool took (the first of equals) if ReLU let it through.
// x and g are computed again where they are needed instead of being stored: memory is slower than that.
// y, z: [n][h][w][C], C in whole vectors.
#pragma once

#include "vectors.h"

namespace metadist {

struct NormShape {
  int examples, height, width, channels;
  bool pool;
  double epsilon;

  Index positions() const { return static_cast<Index>(examples) * height * width; }
  int out_height() const { return pool ? height / 2 : height; }
  int out_width() const { return pool ? width / 2 : width; }
  Index out_positions() const { return static_cast<Index>(examples) * out_height() * out_width(); }
};

// Per channel, [C] each; gamma and beta may be missing (1 and 0).
template <class T>
struct NormParameters {
  const T *gamma, *beta;
};

// What a pass leaves behind for the passes after it, [C] each.
template <class T>
struct NormMoments {
  T *mean, *r;        // of y
  T *mean_g, *mean_xg;
};

// Values of a block of NV vectors of channels.
template <class T, int NV>
struct Block {
  Vector<T> v[NV];

  ALWAYS_INLINE static Block of(const T* from, int first, T missing) {
    Block block;
    for (int i = 0; i < NV; i++) block.v[i] = from ? load<T>(from + first + i * LANES<T>) : all<T>(missing);
    return block;
  }
};

// Sums over positions of S quantities for NV vectors of channels: at most 64 are added in T, those in double.
template <class T, int NV, int S>
struct Sums {
  Vector<T> part[S][NV];
  double total[S][NV * LANES<T>];
  int count[NV];

  ALWAYS_INLINE Sums() {
    for (int s = 0; s < S; s++) {
      for (int v = 0; v < NV; v++) part[s][v] = Vector<T>{};
      for (int c = 0; c < NV * LANES<T>; c++) total[s][c] = 0;
    }
    for (int v = 0; v < NV; v++) count[v] = 0;
  }
  void put_aside(int v) {
    for (int s = 0; s < S; s++) {
      for (int lane = 0; lane < LANES<T>; lane++) total[s][v * LANES<T> + lane] += part[s][v][lane];
      part[s][v] = Vector<T>{};
    }
    count[v] = 0;
  }
  ALWAYS_INLINE void added(int v) {
    if (++count[v] == 64) put_aside(v);
  }
  void finish() {
    for (int v = 0; v < NV; v++) put_aside(v);
  }
};

// The channels of a block, with what maps y to x and to gamma x + beta.
template <class T, int NV>
struct Normalised {
  Block<T, NV> mean, r, gamma, beta;
  const T* y;  // of the block's first channel
  Index step;  // from one position to the next

  ALWAYS_INLINE Normalised(const NormShape& shape, const T* from, const NormParameters<T>& p, const NormMoments<T>& m,
                           int first)
      : mean(Block<T, NV>::of(m.mean, first, 0)),
        r(Block<T, NV>::of(m.r, first, 0)),
        gamma(Block<T, NV>::of(p.gamma, first, 1)),
        beta(Block<T, NV>::of(p.beta, first, 0)),
        y(from + first),
        step(shape.channels) {}

  ALWAYS_INLINE Vector<T> centred(Index position, int v) const {
    return load<T>(y + position * step + v * LANES<T>) - mean.v[v];
  }
  ALWAYS_INLINE Vector<T> activation(Vector<T> centred, int v) const {
    return centred * (r.v[v] * gamma.v[v]) + beta.v[v];
  }
};

// Calls window(first position, pooled position) for each 2x2 window, and rest(position) for what the pool
// leaves out at the right and at the bottom of odd sizes.
template <class W, class R>
ALWAYS_INLINE void for_windows(const NormShape& shape, W window, R rest) {
  const int H = shape.height, W2 = shape.width / 2 * 2, H2 = H / 2 * 2;
  Index pooled = 0;
  for (int n = 0; n < shape.examples; n++)
    for (int h = 0; h < H; h++) {
      const Index line = (static_cast<Index>(n) * H + h) * shape.width;
      if (h < H2 && h % 2 == 0)
        for (int w = 0; w < W2; w += 2) window(line + w, pooled++);
      for (int w = h < H2 ? W2 : 0; w < shape.width; w++) rest(line + w);
    }
}

ALWAYS_INLINE Index window_position(const NormShape& shape, Index first, int k) {
  return first + (k >> 1) * shape.width + (k & 1);
}

// Calls f(position, v, x, g) once for each position: g[k] is upstream[k], routed as described above.
template <class T, int NV, int K, class F>
ALWAYS_INLINE void for_routed(const NormShape& shape, const Normalised<T, NV>& norm, const T* const (&upstream)[K],
                              int first, F f) {
  if (!shape.pool) {
    for (Index p = 0; p < shape.positions(); p++)
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) {
        const Vector<T> centred = norm.centred(p, v), a = norm.activation(centred, v);
        Vector<T> g[K];
        for (int k = 0; k < K; k++) {
          const Vector<T> given = load<T>(upstream[k] + p * norm.step + first + v * LANES<T>);
          g[k] = a <= T(0) ? Vector<T>{} : given;
        }
        f(p, v, centred * norm.r.v[v], g);
      }
    return;
  }
  for_windows(
      shape,
      [&](Index begin, Index pooled) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) {
          Vector<T> x[4], a[4], most = Vector<T>{}, left[K];
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++) {
            const Vector<T> centred = norm.centred(window_position(shape, begin, k), v);
            x[k] = centred * norm.r.v[v];
            a[k] = norm.activation(centred, v);
            most = larger<T>(most, a[k]);
          }
          for (int e = 0; e < K; e++) left[e] = load<T>(upstream[e] + pooled * norm.step + first + v * LANES<T>);
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++) {
            const auto taken = (a[k] == most) & (a[k] > T(0));
            Vector<T> g[K];
            for (int e = 0; e < K; e++) {
              g[e] = taken ? left[e] : Vector<T>{};
              left[e] = taken ? Vector<T>{} : left[e];
            }
            f(window_position(shape, begin, k), v, x[k], g);
          }
        }
      },
      [&](Index p) {
        for (int v = 0; v < NV; v++) {
          Vector<T> g[K];
          for (int e = 0; e < K; e++) g[e] = Vector<T>{};
          f(p, v, norm.centred(p, v) * norm.r.v[v], g);
        }
      });
}

// z of y; writes mean and r to the moments, and the biased variance [C] where it is wanted.
template <class T>
void norm_forward(const NormShape& shape, const NormParameters<T>& p, const NormMoments<T>& m, const T* y, T* z,
                  T* variance) {
  const Index M = shape.positions();
  for_channel_blocks<T>(shape.channels, [&](auto vectors, int first) {
    constexpr int NV = decltype(vectors)::value, L = LANES<T>, C = NV * L;
    Sums<T, NV, 1> means;
    for (Index i = 0; i < M; i++)
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) {
        means.part[0][v] += load<T>(y + i * shape.channels + first + v * L);
        means.added(v);
      }
    means.finish();
    for (int c = 0; c < C; c++) m.mean[first + c] = static_cast<T>(means.total[0][c] / M);
    const Block<T, NV> mean = Block<T, NV>::of(m.mean, first, 0);
    Sums<T, NV, 1> squares;
    for (Index i = 0; i < M; i++)
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) {
        const Vector<T> centred = load<T>(y + i * shape.channels + first + v * L) - mean.v[v];
        squares.part[0][v] += centred * centred;
        squares.added(v);
      }
    squares.finish();
    for (int c = 0; c < C; c++) {
      const double off = means.total[0][c] / M - static_cast<double>(m.mean[first + c]);  // lost in rounding
      const double var = squares.total[0][c] / M - off * off;
      m.r[first + c] = static_cast<T>(1.0 / __builtin_sqrt(var + shape.epsilon));
      if (variance) variance[first + c] = static_cast<T>(var);
    }
    const Normalised<T, NV> norm(shape, y, p, m, first);
    T* out = z + first;
    if (!shape.pool) {
      for (Index i = 0; i < M; i++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++)
          store<T>(out + i * norm.step + v * L, larger<T>(Vector<T>{}, norm.activation(norm.centred(i, v), v)));
      return;
    }
    for_windows(
        shape,
        [&](Index begin, Index pooled) {
#pragma GCC unroll 4
          for (int v = 0; v < NV; v++) {
            Vector<T> most = Vector<T>{};
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
              most = larger<T>(most, norm.activation(norm.centred(window_position(shape, begin, k), v), v));
            store<T>(out + pooled * norm.step + v * L, most);
          }
        },
        [](Index) {});
  });
}

// dy of dz (dy may be y itself), and dgamma and dbeta where they are wanted.
template <class T>
void norm_backward(const NormShape& shape, const NormParameters<T>& p, const NormMoments<T>& m, const T* y, const T* dz,
                   T* dy, T* dgamma, T* dbeta) {
  const Index M = shape.positions();
  for_channel_blocks<T>(shape.channels, [&](auto vectors, int first) {
    constexpr int NV = decltype(vectors)::value, C = NV * LANES<T>;
    const Normalised<T, NV> norm(shape, y, p, m, first);
    const T* const upstream[1] = {dz};
    Sums<T, NV, 2> sums;
    for_routed<T, NV, 1>(shape, norm, upstream, first, [&](Index, int v, Vector<T> x, const Vector<T>(&g)[1]) {
      sums.part[0][v] += g[0];
      sums.part[1][v] += g[0] * x;
      sums.added(v);
    });
    sums.finish();
    for (int c = 0; c < C; c++) {
      m.mean_g[first + c] = static_cast<T>(sums.total[0][c] / M);
      m.mean_xg[first + c] = static_cast<T>(sums.total[1][c] / M);
      if (dbeta) dbeta[first + c] = static_cast<T>(sums.total[0][c]);
      if (dgamma) dgamma[first + c] = static_cast<T>(sums.total[1][c]);
    }
    const Block<T, NV> mean_g = Block<T, NV>::of(m.mean_g, first, 0), mean_xg = Block<T, NV>::of(m.mean_xg, first, 0);
    for_routed<T, NV, 1>(shape, norm, upstream, first, [&](Index i, int v, Vector<T> x, const Vector<T>(&g)[1]) {
      const Vector<T> value = norm.gamma.v[v] * norm.r.v[v] * (g[0] - mean_g.v[v] - x * mean_xg.v[v]);
      store<T>(dy + i * norm.step + first + v * LANES<T>, value);
    });
  });
}

}  // namespace metadist
