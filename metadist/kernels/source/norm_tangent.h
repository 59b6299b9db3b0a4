// The derivative of norm.h along a direction (y', gamma', beta'), forward and of its own derivative. With
// x, r, g as there, and a prime for a derivative along the direction:
//
//   r' = -r^2 mean(x y')        x' = r (y' - mean y' - x mean(x y'))        z' = pool (gamma' x + gamma x' + beta')
//   dy' = (gamma' r + gamma r') (g - mean g - x mean(x g))
//         + gamma r (g' - mean g' - x (mean(x g') + mean(x' g)) - x' mean(x g))
//   dgamma' = sum (x g' + x' g)        dbeta' = sum g'
//
// where the pool and ReLU take the same positions as before.
#pragma once

#include "norm.h"

namespace metadist {

// A direction of scale and shift; may be missing (0).
template <class T>
struct NormDirection {
  const T *gamma, *beta;
};

// mean y' and mean(x y'), [C] each.
template <class T>
struct TangentMoments {
  T *mean_y, *mean_xy;
};

// x' at a position.
template <class T, int NV>
struct TangentOf {
  Block<T, NV> mean_y, mean_xy;
  const T* y1;

  ALWAYS_INLINE TangentOf(const T* from, const TangentMoments<T>& m, int first)
      : mean_y(Block<T, NV>::of(m.mean_y, first, 0)), mean_xy(Block<T, NV>::of(m.mean_xy, first, 0)), y1(from + first) {}

  ALWAYS_INLINE Vector<T> x(const Normalised<T, NV>& norm, Index i, int v, Vector<T> x) const {
    const Vector<T> along = load<T>(y1 + i * norm.step + v * LANES<T>);
    return norm.r.v[v] * (along - mean_y.v[v] - x * mean_xy.v[v]);
  }
};

// z1 of y1.
template <class T>
void norm_tangent_forward(const NormShape& shape, const NormParameters<T>& p, const NormMoments<T>& m,
                          const NormDirection<T>& d, const TangentMoments<T>& t, const T* y, const T* y1, T* z1) {
  const Index M = shape.positions();
  for_channel_blocks<T>(shape.channels, [&](auto vectors, int first) {
    constexpr int NV = decltype(vectors)::value, L = LANES<T>;
    const Normalised<T, NV> norm(shape, y, p, m, first);
    Sums<T, NV, 2> sums;
    for (Index i = 0; i < M; i++)
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) {
        const Vector<T> along = load<T>(y1 + i * norm.step + first + v * L);
        sums.part[0][v] += along;
        sums.part[1][v] += along * (norm.centred(i, v) * norm.r.v[v]);
        sums.added(v);
      }
    sums.finish();
    for (int c = 0; c < NV * L; c++) {
      t.mean_y[first + c] = static_cast<T>(sums.total[0][c] / M);
      t.mean_xy[first + c] = static_cast<T>(sums.total[1][c] / M);
    }
    const TangentOf<T, NV> tangent(y1, t, first);
    const Block<T, NV> gamma1 = Block<T, NV>::of(d.gamma, first, 0), beta1 = Block<T, NV>::of(d.beta, first, 0);
    const auto along = [&](Index i, int v, Vector<T> centred) {
      const Vector<T> x = centred * norm.r.v[v];
      return gamma1.v[v] * x + norm.gamma.v[v] * tangent.x(norm, i, v, x) + beta1.v[v];
    };
    T* out = z1 + first;
    if (!shape.pool) {
      for (Index i = 0; i < M; i++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) {
          const Vector<T> centred = norm.centred(i, v), a = norm.activation(centred, v);
          store<T>(out + i * norm.step + v * L, a <= T(0) ? Vector<T>{} : along(i, v, centred));
        }
      return;
    }
    for_windows(
        shape,
        [&](Index begin, Index pooled) {
#pragma GCC unroll 4
          for (int v = 0; v < NV; v++) {
            Vector<T> most = Vector<T>{}, taken = Vector<T>{};
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
              const Index i = window_position(shape, begin, k);
              const Vector<T> centred = norm.centred(i, v), a = norm.activation(centred, v);
              const Vector<T> value = along(i, v, centred);
              taken = a <= most ? taken : value;
              most = larger<T>(most, a);
            }
            store<T>(out + pooled * norm.step + v * L, taken);
          }
        },
        [](Index) {});
  });
}

// dy1 (which may be y1 itself) of dz and dz1, and dgamma1 and dbeta1 where they are wanted.
template <class T>
void norm_tangent_backward(const NormShape& shape, const NormParameters<T>& p, const NormMoments<T>& m,
                           const NormDirection<T>& d, const TangentMoments<T>& t, const T* y, const T* y1, const T* dz,
                           const T* dz1, T* dy1, T* dgamma1, T* dbeta1) {
  const Index M = shape.positions();
  for_channel_blocks<T>(shape.channels, [&](auto vectors, int first) {
    constexpr int NV = decltype(vectors)::value, L = LANES<T>, C = NV * L;
    const Normalised<T, NV> norm(shape, y, p, m, first);
    const TangentOf<T, NV> tangent(y1, t, first);
    const T* const upstream[2] = {dz, dz1};
    Sums<T, NV, 3> sums;
    for_routed<T, NV, 2>(shape, norm, upstream, first, [&](Index i, int v, Vector<T> x, const Vector<T>(&g)[2]) {
      sums.part[0][v] += g[1];
      sums.part[1][v] += g[1] * x;
      sums.part[2][v] += g[0] * tangent.x(norm, i, v, x);
      sums.added(v);
    });
    sums.finish();
    T means[2][C], scales[C];  // mean g', mean(x g') + mean(x' g), and gamma' r + gamma r'
    for (int c = 0; c < C; c++) {
      const double both = sums.total[1][c] + sums.total[2][c];
      means[0][c] = static_cast<T>(sums.total[0][c] / M);
      means[1][c] = static_cast<T>(both / M);
      if (dbeta1) dbeta1[first + c] = static_cast<T>(sums.total[0][c]);
      if (dgamma1) dgamma1[first + c] = static_cast<T>(both);
      const T r = m.r[first + c], gamma = p.gamma ? p.gamma[first + c] : T(1);
      scales[c] = (d.gamma ? d.gamma[first + c] : T(0)) * r - gamma * r * r * t.mean_xy[first + c];
    }
    const Block<T, NV> mean_g = Block<T, NV>::of(m.mean_g, first, 0), mean_xg = Block<T, NV>::of(m.mean_xg, first, 0);
    const Block<T, NV> mean_g1 = Block<T, NV>::of(means[0], 0, 0), mean_xg1 = Block<T, NV>::of(means[1], 0, 0);
    const Block<T, NV> scale1 = Block<T, NV>::of(scales, 0, 0);
    for_routed<T, NV, 2>(shape, norm, upstream, first, [&](Index i, int v, Vector<T> x, const Vector<T>(&g)[2]) {
      const Vector<T> x1 = tangent.x(norm, i, v, x);
      const Vector<T> projected = g[0] - mean_g.v[v] - x * mean_xg.v[v];
      const Vector<T> projected1 = g[1] - mean_g1.v[v] - x * mean_xg1.v[v] - x1 * mean_xg.v[v];
      const Vector<T> value = scale1.v[v] * projected + norm.gamma.v[v] * norm.r.v[v] * projected1;
      store<T>(dy1 + i * norm.step + first + v * L, value);
    });
  });
}

}  // namespace metadist
