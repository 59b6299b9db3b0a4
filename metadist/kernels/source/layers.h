// Hidden linear layers with ReLU or tanh: forward, backward, and both along a direction of the parameters.
//
//   a = h W + b, h+ = phi(a)                      da = dh+ phi'(a), dW = h^T da, db = sum da, dh = da W^T
//   h+' = phi'(a) (h' W + h W' + b')              da' = dh+' phi'(a) + dh+ phi''(a) a'
//   dW' = h'^T da + h^T da'                       dh' = da' W^T + da W'^T
//
// phi' and phi'' are told from h+ = phi(a): 1 - h^2 and -2 h phi' of tanh, whether h > 0 and 0 of ReLU.
// W [inputs][units], units in whole vectors, so are the inputs of all layers but the first.
#pragma once

#include "elementary.h"
#include "shape.h"
#include "transpose.h"
#include "weight_gradient.h"

namespace metadist {

template <class T>
struct Layers {
  const Shape& shape;
  int units;    // in whole vectors
  Index values;  // n * units
  Index x, h[MOST_LAYERS], da[MOST_LAYERS], dh[MOST_LAYERS], state_size;
  Index weights, weights1, first_scratch, h1[MOST_LAYERS], da1, dh1, second_scratch;

  explicit Layers(const Shape& of)
      : shape(of), units(whole_vectors<T>(of.units)), values(static_cast<Index>(of.examples) * units) {
    Places places;
    x = places.take(static_cast<Index>(shape.examples) * shape.channels);
    for (int i = 0; i < shape.depth; i++) {
      h[i] = places.take(values);
      da[i] = shape.keep ? places.take(values) : 0;
      dh[i] = shape.keep ? places.take(values) : 0;
    }
    state_size = places.used;
    Places scratch;
    weights = scratch.take(static_cast<Index>(units) * units);
    first_scratch = scratch.used;
    weights1 = scratch.take(static_cast<Index>(units) * units);
    for (int i = 0; i < shape.depth; i++) h1[i] = scratch.take(values);
    da1 = scratch.take(values);
    dh1 = scratch.take(values);
    second_scratch = scratch.used;
  }

  int last() const { return shape.depth - 1; }
  int features() const { return units; }
  int inputs(int i) const { return i == 0 ? shape.channels : shape.units; }
  int input_step(int i) const { return i == 0 ? shape.channels : units; }
  const T* input(const T* state, int i) const { return state + (i == 0 ? x : h[i - 1]); }

  // out [n][units] = sum over the sources of rows of `length` numbers, `step` apart, times weights.
  void multiply(const Sources<T>& sources, int length, int step, T* out) const {
    const Piece piece{0, 0, length};
    for_column_blocks<T>(units, [&](auto vectors, int first) {
      constexpr int NV = decltype(vectors)::value, MOST = MOST_ROWS<NV>;
      for_tiles<MOST>(shape.examples, [&](int size, Index begin) {
        Index rows[MOST], places[MOST];
        for (int r = 0; r < size; r++) {
          rows[r] = (begin + r) * step;
          places[r] = (begin + r) * units;
        }
        ProductTiles<T, NV>::of_rows[size - 1](sources, rows, places, &piece, 1, units, first, out);
      });
    });
  }

  // dW [inputs][units] of layer i, the sum over the sources (h, da).
  void weight_gradient(const Sources<T>& sources, int i, T* dW) const {
    if (dW == nullptr) return;
    const Walk walk{{1, 1, shape.examples}, {0, 0, input_step(i)}, {0, 0, units}};
    outer_products<T>(sources, walk, inputs(i), units, false, dW);
  }

  void bias_sum(const T* da, T* db) const {
    if (db == nullptr) return;
    for (int u = 0; u < units; u++) {
      T total = 0;
      for (int n = 0; n < shape.examples; n++) total += da[static_cast<Index>(n) * units + u];
      db[u] = total;
    }
  }

  // phi'(a), of phi(a).
  T slope(T value) const {
    if (shape.activation == 1) return T(1) - value * value;
    return value > T(0) ? T(1) : T(0);
  }

  const T* forward(const T* from, const Tensors<const T>& p, T* state, T*) const {
    std::memcpy(state + x, from, sizeof(T) * shape.examples * shape.channels);
    for (int i = 0; i < shape.depth; i++) {
      Sources<T> sources;
      sources.add(input(state, i), p.weight(i));
      T* out = state + h[i];
      multiply(sources, inputs(i), input_step(i), out);
      for (Index j = 0; j < values; j++) {
        const T a = out[j] + p.shift(i)[j % units];
        out[j] = shape.activation == 1 ? static_cast<T>(hyperbolic_tangent(a)) : (a <= T(0) ? T(0) : a);
      }
    }
    return features_of(state);
  }
  const T* features_of(const T* state) const { return state + h[last()]; }

  T* feature_gradient(T* state) const { return state + dh[last()]; }

  void backward(const Tensors<const T>& p, T* state, T* scratch, const Tensors<T>& gradients) const {
    for (int i = last(); i >= shape.lowest; i--) {
      for (Index j = 0; j < values; j++) state[da[i] + j] = state[dh[i] + j] * slope(state[h[i] + j]);
      Sources<T> sources;
      sources.add(input(state, i), state + da[i]);
      weight_gradient(sources, i, gradients.weight(i));
      bias_sum(state + da[i], gradients.shift(i));
      if (i == shape.lowest) break;
      Sources<T> back;
      back.add(state + da[i], transposed(p.weight(i), scratch + weights));
      multiply(back, shape.units, units, state + dh[i - 1]);
    }
  }

  const T* transposed(const T* w, T* to) const {
    if (w == nullptr) return nullptr;
    transpose<T>(1, units, units, w, to);
    return to;
  }

  const T* tangent_forward(const Tensors<const T>& p, const Tensors<const T>& d, T* state, T* scratch) const {
    if (shape.lowest > last()) return nullptr;
    for (int i = shape.lowest; i < shape.depth; i++) {
      Sources<T> sources;
      if (i > shape.lowest) sources.add(scratch + h1[i - 1], p.weight(i));
      sources.add(input(state, i), d.weight(i));
      T* out = scratch + h1[i];
      multiply(sources, inputs(i), input_step(i), out);
      for (Index j = 0; j < values; j++) {
        const T a1 = out[j] + (d.shift(i) ? d.shift(i)[j % units] : T(0));
        out[j] = slope(state[h[i] + j]) * a1;
      }
    }
    return scratch + h1[last()];
  }

  // Apart from f1, which tells a' of the last layer.
  T* feature_tangent(T* scratch) const { return scratch + dh1; }

  void tangent_backward(const Tensors<const T>& p, const Tensors<const T>& d, T* state, T* scratch,
                        const Tensors<T>& products) const {
    for (int i = last(); i >= 0 && products.reach(i); i--) {
      const bool along = i >= shape.lowest;
      for (Index j = 0; j < values; j++) {
        const T value = state[h[i] + j];
        scratch[da1 + j] = scratch[dh1 + j] * slope(value);
        // phi'' a' = -2 h phi' a' = -2 h h'
        if (along && shape.activation == 1) scratch[da1 + j] -= T(2) * value * scratch[h1[i] + j] * state[dh[i] + j];
      }
      Sources<T> sources;
      if (along && i > shape.lowest) sources.add(scratch + h1[i - 1], state + da[i]);
      sources.add(input(state, i), scratch + da1);
      weight_gradient(sources, i, products.weight(i));
      bias_sum(scratch + da1, products.shift(i));
      if (i == 0) return;
      Sources<T> back;
      back.add(scratch + da1, transposed(p.weight(i), scratch + weights));
      if (along) back.add(state + da[i], transposed(d.weight(i), scratch + weights1));
      multiply(back, shape.units, units, scratch + dh1);
    }
  }
};

}  // namespace metadist
