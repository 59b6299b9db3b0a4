// Blocks of convolution, batch normalisation, ReLU and perhaps max-pool, one after the other: forward,
// backward, and both along a direction of the parameters. Where everything lies is computed anew at each
// call; nothing is allocated here and nothing outlives a call but what is written into `state`.
#pragma once

#include "head.h"
#include "norm_tangent.h"
#include "shape.h"
#include "transpose.h"
#include "weight_gradient.h"

namespace metadist {

template <class T>
struct Blocks {
  const Shape& shape;
  int channels;  // filters in whole vectors
  Convolution conv[MOST_LAYERS];
  NormShape norm[MOST_LAYERS];
  // Places in the state of a pass. After a pass that is kept for one derivative, dy takes the place of y, and
  // dz that of z, when y and z are no longer needed; kept for none, blocks share their places.
  Index border, y[MOST_LAYERS], z[MOST_LAYERS], dy[MOST_LAYERS], dz[MOST_LAYERS], moments[MOST_LAYERS];
  Index pooled, pooled_gradient, state_size;
  // Places in the scratch of a derivative. dy1 takes the place of y1, and dz1 that of z1.
  Index weights, weights1, first_scratch;
  Index y1[MOST_LAYERS], z1[MOST_LAYERS], moments1[MOST_LAYERS], pooled1, second_scratch;

  explicit Blocks(const Shape& of) : shape(of), channels(whole_vectors<T>(of.units)) {
    int height = shape.height, width = shape.width;
    for (int i = 0; i < shape.depth; i++) {
      const int inputs = i == 0 ? shape.channels : shape.units, step = i == 0 ? shape.channels : channels;
      conv[i] = {shape.examples, height, width, inputs, step, shape.units, channels, shape.stride, i == 0};
      norm[i] = {shape.examples, conv[i].out_height(), conv[i].out_width(), channels, shape.pool != 0, shape.epsilon};
      height = norm[i].out_height();
      width = norm[i].out_width();
    }
    Places places;
    border = places.take(conv[0].input_image() * shape.examples);
    for (int i = 0; i < shape.depth; i++) {
      const bool reused = shape.keep == 0 && i > 0;
      y[i] = reused ? y[0] : places.take(y_size(i));
      z[i] = reused && i > 1 ? z[i - 2] : places.take(z_size(i));
      dy[i] = shape.keep == 2 ? places.take(y_size(i)) : y[i];
      dz[i] = shape.keep == 2 ? places.take(z_size(i)) : z[i];
      moments[i] = places.take(4 * channels);
    }
    const Index means = static_cast<Index>(shape.examples) * channels;
    pooled = shape.flatten ? z[last()] : places.take(means);
    pooled_gradient = shape.flatten ? dz[last()] : shape.keep == 2 ? places.take(means) : pooled;
    state_size = places.used;
    Places scratch;
    weights = scratch.take(9 * static_cast<Index>(channels) * channels);
    first_scratch = scratch.used;
    weights1 = scratch.take(9 * static_cast<Index>(channels) * channels);
    for (int i = 0; i < shape.depth; i++) {
      y1[i] = scratch.take(y_size(i));
      z1[i] = scratch.take(z_size(i));
      moments1[i] = scratch.take(2 * channels);
    }
    pooled1 = shape.flatten ? z1[last()] : scratch.take(means);
    second_scratch = scratch.used;
  }

  int last() const { return shape.depth - 1; }
  Index y_size(int i) const { return norm[i].positions() * channels; }
  Index z_size(int i) const { return norm[i].out_positions() * channels; }
  int last_positions() const { return norm[last()].out_height() * norm[last()].out_width(); }
  int features() const { return shape.flatten ? last_positions() * channels : channels; }

  NormMoments<T> moments_of(T* state, int i) const {
    T* m = state + moments[i];
    return {m, m + channels, m + 2 * channels, m + 3 * channels};
  }
  static NormParameters<T> norm_of(const Tensors<const T>& p, int i) { return {p.scale(i), p.shift(i)}; }
  const T* input(const T* state, int i) const { return state + (i == 0 ? border : z[i - 1]); }

  // Features [n][F]; statistics [depth][2][channels] (mean, biased variance) where they are wanted.
  const T* forward(const T* x, const Tensors<const T>& p, T* state, T* statistics) const {
    with_border<T>(conv[0], x, state + border);
    for (int i = 0; i < shape.depth; i++) {
      Sources<T> sources;
      sources.add(input(state, i), p.weight(i));
      convolve<T>(conv[i], sources, state + y[i]);
      T* of_block = statistics ? statistics + static_cast<Index>(i) * 2 * channels : nullptr;
      const NormMoments<T> m = moments_of(state, i);
      norm_forward<T>(norm[i], norm_of(p, i), m, state + y[i], state + z[i], of_block ? of_block + channels : nullptr);
      if (of_block) std::memcpy(of_block, m.mean, sizeof(T) * channels);
    }
    if (!shape.flatten)
      mean_of_positions<T>(shape.examples, last_positions(), channels, state + z[last()], state + pooled);
    return features_of(state);
  }
  const T* features_of(const T* state) const { return state + pooled; }

  // Where df is to be written: with flattened features it is dz of the last block itself.
  T* feature_gradient(T* state) const { return state + pooled_gradient; }

  // Gradients of the blocks from `lowest` on, of df where feature_gradient() says.
  void backward(const Tensors<const T>& p, T* state, T* scratch, const Tensors<T>& gradients) const {
    if (!shape.flatten)
      spread_over_positions<T>(shape.examples, last_positions(), channels, state + pooled_gradient, state + dz[last()]);
    for (int i = last(); i >= shape.lowest; i--) {
      norm_backward<T>(norm[i], norm_of(p, i), moments_of(state, i), state + y[i], state + dz[i], state + dy[i],
                       gradients.scale(i), gradients.shift(i));
      if (gradients.weight(i)) {
        Sources<T> sources;
        sources.add(input(state, i), state + dy[i]);
        convolution_gradient<T>(conv[i], sources, gradients.weight(i));
      }
      if (i == shape.lowest) break;
      Sources<T> sources;
      sources.add(state + dy[i], transposed(p.weight(i), scratch + weights));
      convolve_back<T>(conv[i], sources, state + dz[i - 1]);
    }
  }

  const T* transposed(const T* w, T* to) const {
    if (w == nullptr) return nullptr;
    transpose<T>(9, channels, channels, w, to);
    return to;
  }

  // f' along a direction of the blocks from `lowest` on; null if that is none of them.
  const T* tangent_forward(const Tensors<const T>& p, const Tensors<const T>& d, T* state, T* scratch) const {
    if (shape.lowest > last()) return nullptr;
    for (int i = shape.lowest; i < shape.depth; i++) {
      Sources<T> sources;
      if (i > shape.lowest) sources.add(scratch + z1[i - 1], p.weight(i));
      sources.add(input(state, i), d.weight(i));
      convolve<T>(conv[i], sources, scratch + y1[i]);
      norm_tangent_forward<T>(norm[i], norm_of(p, i), moments_of(state, i), {d.scale(i), d.shift(i)},
                              moments1_of(scratch, i), state + y[i], scratch + y1[i], scratch + z1[i]);
    }
    if (!shape.flatten)
      mean_of_positions<T>(shape.examples, last_positions(), channels, scratch + z1[last()], scratch + pooled1);
    return scratch + pooled1;
  }

  TangentMoments<T> moments1_of(T* scratch, int i) const {
    return {scratch + moments1[i], scratch + moments1[i] + channels};
  }
  T* feature_tangent(T* scratch) const { return scratch + pooled1; }

  // Products of all blocks, of df1 where feature_tangent() says. The blocks below `lowest` have no direction
  // of their own: what reaches them is a plain gradient.
  void tangent_backward(const Tensors<const T>& p, const Tensors<const T>& d, T* state, T* scratch,
                        const Tensors<T>& products) const {
    if (!products.reach(last())) return;
    if (!shape.flatten)
      spread_over_positions<T>(shape.examples, last_positions(), channels, scratch + pooled1, scratch + z1[last()]);
    for (int i = last(); i >= 0; i--) {
      const bool along = i >= shape.lowest;
      T *dy1 = scratch + y1[i], *dz1 = scratch + z1[i];
      NormMoments<T> m = moments_of(state, i);
      const TangentMoments<T> t = moments1_of(scratch, i);
      if (along) {
        norm_tangent_backward<T>(norm[i], norm_of(p, i), m, {d.scale(i), d.shift(i)}, t, state + y[i], dy1,
                                 state + dz[i], dz1, dy1, products.scale(i), products.shift(i));
      } else {
        m.mean_g = t.mean_y;
        m.mean_xg = t.mean_xy;
        norm_backward<T>(norm[i], norm_of(p, i), m, state + y[i], dz1, dy1, products.scale(i), products.shift(i));
      }
      if (products.weight(i)) {
        Sources<T> sources;
        if (along && i > shape.lowest) sources.add(scratch + z1[i - 1], state + dy[i]);
        sources.add(input(state, i), dy1);
        convolution_gradient<T>(conv[i], sources, products.weight(i));
      }
      if (i == 0 || !products.reach(i - 1)) return;
      Sources<T> sources;
      sources.add(dy1, transposed(p.weight(i), scratch + weights));
      if (along) sources.add(state + dy[i], transposed(d.weight(i), scratch + weights1));
      convolve_back<T>(conv[i], sources, scratch + z1[i - 1]);
    }
  }
};

}  // namespace metadist
