// A pass through a whole network: body (blocks or layers), head and objective put together.
//
// A pass writes what its derivatives need into `state`; they may be asked for later, and what is kept for
// two (shape.keep) any number of times. Of one kept for one derivative the state is used up by it.
#pragma once

#include "blocks.h"
#include "head.h"
#include "layers.h"
#include "objective.h"

namespace metadist {

template <class T, class Body>
struct Network {
  const Shape& shape;
  Body body;
  HeadShape head;
  ObjectiveShape objective;
  Index d, p, state_size;  // places in the state, behind the body's
  Index o1, d1, first_scratch, second_scratch;  // places in the scratch

  explicit Network(const Shape& of)
      : shape(of),
        body(of),
        head{of.examples, body.features(), of.outputs},
        objective{of.objective == 1 ? Objective::squared_error : Objective::cross_entropy, of.examples, of.outputs, of.scale} {
    const Index outputs = static_cast<Index>(shape.examples) * shape.outputs;
    Places places{body.state_size};
    d = places.take(outputs);
    p = places.take(outputs);
    state_size = places.used;
    first_scratch = body.first_scratch;
    Places scratch{body.second_scratch};
    o1 = scratch.take(outputs);
    d1 = scratch.take(outputs);
    second_scratch = scratch.used;
  }

  // Outputs [n][N], and features [n][F] where they are wanted.
  const T* forward(const T* x, const Tensors<const T>& params, T* state, T* outputs, T* statistics) const {
    const T* f = body.forward(x, params, state, statistics);
    if (shape.outputs > 0) {
      set_bias<T>(head, params.head_bias(), outputs);
      add_linear<T>(head, f, params.head_weight(), outputs);
    }
    return f;
  }

  // Gradients of what has the derivative d_outputs [n][N] with respect to the outputs.
  void backward(const Tensors<const T>& params, T* state, T* scratch, const T* d_outputs, const Tensors<T>& gradients) const {
    const T* f = features_of(state);
    linear_weight_gradient<T>(head, d_outputs, f, nullptr, nullptr, gradients.head_weight());
    bias_gradient<T>(head, d_outputs, gradients.head_bias());
    if (shape.lowest >= shape.depth) return;
    linear_feature_gradient<T>(head, d_outputs, params.head_weight(), nullptr, nullptr, body.feature_gradient(state));
    body.backward(params, state, scratch, gradients);
  }

  // Of the features' derivative [n][F], of a network without a head.
  void features_backward(const Tensors<const T>& params, T* state, T* scratch, const T* d_features,
                         const Tensors<T>& gradients) const {
    std::memcpy(body.feature_gradient(state), d_features, sizeof(T) * shape.examples * head.features);
    body.backward(params, state, scratch, gradients);
  }

  const T* features_of(const T* state) const { return body.features_of(state); }

  // The loss, and its gradients where any are wanted; false if a label is none.
  bool loss(const T* x, const void* targets, const Tensors<const T>& params, T* state, T* scratch, T* outputs, T* value,
            T* statistics, const Tensors<T>* gradients) const {
    forward(x, params, state, outputs, statistics);
    if (!objective_forward<T>(objective, outputs, targets, value, state + d, state + p)) return false;
    if (gradients) backward(params, state, scratch, state + d, *gradients);
    return true;
  }

  // Gradients of of_loss * loss + <d_outputs, outputs>, after forward() or loss(); d_outputs may be missing.
  void later(const Tensors<const T>& params, T* state, T* scratch, double of_loss, const T* d_outputs,
             const Tensors<T>& gradients) const {
    for (int i = 0; i < shape.examples * shape.outputs; i++) {
      const T from_loss = of_loss != 0 ? static_cast<T>(of_loss) * state[d + i] : T(0);
      state[d + i] = from_loss + (d_outputs ? d_outputs[i] : T(0));
    }
    backward(params, state, scratch, state + d, gradients);
  }

  // products = (second derivative of the loss) directions + loss_direction * (its first derivative).
  void tangent(const Tensors<const T>& params, const Tensors<const T>& directions, double loss_direction, T* state,
               T* scratch, const Tensors<T>& products) const {
    const T* f = features_of(state);
    const T* f1 = body.tangent_forward(params, directions, state, scratch);
    set_bias<T>(head, directions.head_bias(), scratch + o1);
    add_linear<T>(head, f1, params.head_weight(), scratch + o1);
    add_linear<T>(head, f, directions.head_weight(), scratch + o1);
    objective_tangent<T>(objective, state + p, state + d, scratch + o1, loss_direction, scratch + d1);
    linear_weight_gradient<T>(head, scratch + d1, f, state + d, f1, products.head_weight());
    bias_gradient<T>(head, scratch + d1, products.head_bias());
    linear_feature_gradient<T>(head, scratch + d1, params.head_weight(), state + d, directions.head_weight(),
                               body.feature_tangent(scratch));
    body.tangent_backward(params, directions, state, scratch, products);
  }
};

// Calls f with the network of a shape.
template <class T, class F>
auto with_network(const Shape& shape, F f) {
  if (shape.kind == 1) return f(Network<T, Layers<T>>(shape));
  return f(Network<T, Blocks<T>>(shape));
}

}  // namespace metadist
