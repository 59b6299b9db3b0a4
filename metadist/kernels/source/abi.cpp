// What Python calls, compiled once with -DREAL=float -DSUFFIX=f32 and once with -DREAL=double -DSUFFIX=f64.
//
// Every call computes on memory that it is given and nothing else: nothing is allocated, no thread is
// started, nothing is remembered. Arrays of tensors are pointers as Tensors<T> orders them.
#include "network.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define JOINED_(name, suffix) name##_##suffix
#define JOINED(name, suffix) JOINED_(name, suffix)

using T = REAL;
using metadist::Index;
using metadist::Shape;
using metadist::Tensors;
using metadist::with_network;

namespace {

Tensors<const T> given(const T* const* tensors, const Shape& shape) { return {tensors, shape.depth}; }
Tensors<T> wanted(T* const* tensors, const Shape& shape) { return {tensors, shape.depth}; }

}  // namespace

// Numbers in a vector.
EXPORTED int JOINED(metadist_lanes, SUFFIX)() { return metadist::LANES<T>; }

// Numbers of: state, scratch of a first derivative, scratch of a second one, features of an example.
EXPORTED void JOINED(metadist_sizes, SUFFIX)(const Shape* shape, std::int64_t* sizes) {
  with_network<T>(*shape, [&](const auto& network) {
    sizes[0] = network.state_size;
    sizes[1] = network.first_scratch;
    sizes[2] = network.second_scratch;
    sizes[3] = network.head.features;
  });
}

// Outputs [n][N] where there is a head, else features [n][F].
EXPORTED void JOINED(metadist_forward, SUFFIX)(
    const Shape* shape, const T* x, const T* const* params, T* state, T* outputs, T* statistics) {
  with_network<T>(*shape, [&](const auto& network) {
    const T* features = network.forward(x, given(params, *shape), state, outputs, statistics);
    if (shape->outputs == 0) std::memcpy(outputs, features, sizeof(T) * shape->examples * network.head.features);
  });
}

// Gradients of of_loss * loss + <d_outputs, outputs> after loss(), or of the latter after forward().
EXPORTED void JOINED(metadist_backward, SUFFIX)(const Shape* shape, const T* const* params, T* state, T* scratch,
                                                double of_loss, const T* d_outputs, T* const* gradients) {
  with_network<T>(*shape, [&](const auto& network) {
    if (shape->outputs == 0)
      network.features_backward(given(params, *shape), state, scratch, d_outputs, wanted(gradients, *shape));
    else
      network.later(given(params, *shape), state, scratch, of_loss, d_outputs, wanted(gradients, *shape));
  });
}

// The loss, and its gradients unless `gradients` is null; 1 if a label is none of the outputs, else 0.
EXPORTED int JOINED(metadist_loss, SUFFIX)(const Shape* shape, const T* x, const void* targets, const T* const* params,
                                           T* state, T* scratch, T* outputs, T* loss, T* statistics, T* const* gradients) {
  return with_network<T>(*shape, [&](const auto& network) {
    const Tensors<T> found = wanted(gradients, *shape);
    const bool good = network.loss(x, targets, given(params, *shape), state, scratch, outputs, loss, statistics,
                                   gradients ? &found : nullptr);
    return good ? 0 : 1;
  });
}

// Second derivative of a loss with keep == 2, along directions of its gradients and of the loss itself.
EXPORTED void JOINED(metadist_tangent, SUFFIX)(
    const Shape* shape, const T* const* params, const T* const* directions, double loss_direction, T* state, T* scratch,
    T* const* products) {
  with_network<T>(*shape, [&](const auto& network) {
    network.tangent(given(params, *shape), given(directions, *shape), loss_direction, state, scratch,
                    wanted(products, *shape));
  });
}

#include "operations.h"
