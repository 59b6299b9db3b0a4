// From features to outputs: the mean over positions, and a linear layer, forward, backward and along a
// direction (f', W', b'):
//
//   f[n][c] = mean over positions of z[n][position][c]              o = f W^T + b
//   dW = do^T f        db = sum do        df = do W
//   o' = f' W^T + f W'^T + b'        dW' = do'^T f + do^T f'        db' = sum do'        df' = do' W + do W'
//
// f [n][F], W [N][F], F in whole vectors; o [n][N]. N is small, so that vectors run along F.
#pragma once

#include "vectors.h"

namespace metadist {

struct HeadShape {
  int examples, features, outputs;  // n, F, N
};

template <class T>
void mean_of_positions(int examples, int positions, int channels, const T* z, T* f) {
  for (int n = 0; n < examples; n++)
    for (int c = 0; c < channels; c += LANES<T>) {
      const T* from = z + static_cast<Index>(n) * positions * channels + c;
      Vector<T> total = Vector<T>{};
      for (int p = 0; p < positions; p++) total += load<T>(from + static_cast<Index>(p) * channels);
      store<T>(f + static_cast<Index>(n) * channels + c, total * all<T>(T(1) / positions));
    }
}

template <class T>
void spread_over_positions(int examples, int positions, int channels, const T* df, T* dz) {
  for (int n = 0; n < examples; n++)
    for (int c = 0; c < channels; c += LANES<T>) {
      const Vector<T> share = load<T>(df + static_cast<Index>(n) * channels + c) * all<T>(T(1) / positions);
      T* to = dz + static_cast<Index>(n) * positions * channels + c;
      for (int p = 0; p < positions; p++) store<T>(to + static_cast<Index>(p) * channels, share);
    }
}

template <class T>
T inner_product(int size, const T* a, const T* b) {
  Vector<T> total = Vector<T>{};
  for (int c = 0; c < size; c += LANES<T>) total += load<T>(a + c) * load<T>(b + c);
  return sum<T>(total);
}

// o += f W^T for each example; a missing f or W adds nothing.
template <class T>
void add_linear(const HeadShape& shape, const T* f, const T* W, T* o) {
  if (f == nullptr || W == nullptr) return;
  for (int n = 0; n < shape.examples; n++)
    for (int k = 0; k < shape.outputs; k++)
      o[n * shape.outputs + k] += inner_product<T>(shape.features, f + static_cast<Index>(n) * shape.features,
                                                   W + static_cast<Index>(k) * shape.features);
}

// o = b, or 0 where it is missing.
template <class T>
void set_bias(const HeadShape& shape, const T* b, T* o) {
  for (int n = 0; n < shape.examples; n++)
    for (int k = 0; k < shape.outputs; k++) o[n * shape.outputs + k] = b ? b[k] : T(0);
}

template <class T>
void bias_gradient(const HeadShape& shape, const T* d, T* db) {
  if (db == nullptr) return;
  for (int k = 0; k < shape.outputs; k++) {
    T total = 0;
    for (int n = 0; n < shape.examples; n++) total += d[n * shape.outputs + k];
    db[k] = total;
  }
}

// dW = d^T f + e^T h; the second pair may be missing.
template <class T>
void linear_weight_gradient(const HeadShape& shape, const T* d, const T* f, const T* e, const T* h, T* dW) {
  if (dW == nullptr) return;
  const bool second = e != nullptr && h != nullptr;
  for (int k = 0; k < shape.outputs; k++)
    for (int c = 0; c < shape.features; c += LANES<T>) {
      Vector<T> total = Vector<T>{};
      for (int n = 0; n < shape.examples; n++) {
        const Index at = static_cast<Index>(n) * shape.features + c;
        total += all<T>(d[n * shape.outputs + k]) * load<T>(f + at);
        if (second) total += all<T>(e[n * shape.outputs + k]) * load<T>(h + at);
      }
      store<T>(dW + static_cast<Index>(k) * shape.features + c, total);
    }
}

// df = d W + e V; the second pair may be missing.
template <class T>
void linear_feature_gradient(const HeadShape& shape, const T* d, const T* W, const T* e, const T* V, T* df) {
  const bool second = e != nullptr && V != nullptr;
  for (int n = 0; n < shape.examples; n++)
    for (int c = 0; c < shape.features; c += LANES<T>) {
      Vector<T> total = Vector<T>{};
      for (int k = 0; k < shape.outputs; k++) {
        const Index at = static_cast<Index>(k) * shape.features + c;
        total += all<T>(d[n * shape.outputs + k]) * load<T>(W + at);
        if (second) total += all<T>(e[n * shape.outputs + k]) * load<T>(V + at);
      }
      store<T>(df + static_cast<Index>(n) * shape.features + c, total);
    }
}

}  // namespace metadist
