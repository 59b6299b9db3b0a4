// What outputs o [n][N] are judged by, times a factor s, and its derivative d [n][N] with respect to o:
//
//   cross-entropy of labels y [n]:      L = s / n sum (ln sum exp o - o_y)      d = s / n (p - 1_y), p = softmax o
//   squared error of values y [n][N]:   L = s / (n N) sum (o - y)^2             d = 2 s / (n N) (o - y)
//
// and along a direction o' of the outputs: d' = s / n p (o' - <p, o'>), and 2 s / (n N) o'.
#pragma once

#include "elementary.h"
#include "vectors.h"

namespace metadist {

enum class Objective : int { cross_entropy = 0, squared_error = 1 };

struct ObjectiveShape {
  Objective kind;
  int examples, outputs;
  double scale;
};

// Writes L, d and (of cross-entropy) p; false if a label is none of 0 ... N - 1.
template <class T>
bool objective_forward(const ObjectiveShape& shape, const T* o, const void* targets, T* loss, T* d, T* p) {
  const int n = shape.examples, N = shape.outputs;
  double total = 0;
  if (shape.kind == Objective::squared_error) {
    const T* y = static_cast<const T*>(targets);
    const double factor = shape.scale / (static_cast<double>(n) * N);
    for (int i = 0; i < n * N; i++) {
      const double off = static_cast<double>(o[i]) - static_cast<double>(y[i]);
      total += off * off;
      d[i] = static_cast<T>(2.0 * factor * off);
    }
    *loss = static_cast<T>(factor * total);
    return true;
  }
  const std::int64_t* y = static_cast<const std::int64_t*>(targets);
  const double factor = shape.scale / n;
  for (int i = 0; i < n; i++) {
    if (y[i] < 0 || y[i] >= N) return false;
    const T* row = o + static_cast<Index>(i) * N;
    double most = row[0], whole = 0;
    for (int k = 1; k < N; k++) most = row[k] <= most ? most : row[k];
    for (int k = 0; k < N; k++) whole += exponential(row[k] - most);
    total += logarithm(whole) + most - row[y[i]];
    for (int k = 0; k < N; k++) {
      const double share = exponential(row[k] - most) / whole;
      p[static_cast<Index>(i) * N + k] = static_cast<T>(share);
      d[static_cast<Index>(i) * N + k] = static_cast<T>(factor * (share - (k == y[i])));
    }
  }
  *loss = static_cast<T>(factor * total);
  return true;
}

// d1 along o1, and `loss_direction` times d beside it: what L itself weighs in a further derivative.
template <class T>
void objective_tangent(const ObjectiveShape& shape, const T* p, const T* d, const T* o1, double loss_direction, T* d1) {
  const int n = shape.examples, N = shape.outputs;
  const double factor = shape.kind == Objective::squared_error ? 2.0 * shape.scale / (static_cast<double>(n) * N)
                                                                : shape.scale / n;
  for (int i = 0; i < n; i++) {
    const Index row = static_cast<Index>(i) * N;
    double inner = 0;
    if (shape.kind == Objective::cross_entropy)
      for (int k = 0; k < N; k++) inner += static_cast<double>(p[row + k]) * o1[row + k];
    for (int k = 0; k < N; k++) {
      const double along = o1[row + k];
      const double curved = shape.kind == Objective::squared_error ? along : p[row + k] * (along - inner);
      d1[row + k] = static_cast<T>(factor * curved + loss_direction * d[row + k]);
    }
  }
}

}  // namespace metadist
