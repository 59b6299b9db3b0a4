// What Python says of a network and of a pass through it: part of the C ABI, so plain numbers only.
#pragma once

#include <cstdint>

#include "vectors.h"

extern "C" {

struct metadist_shape {
  std::int32_t kind;        // 0: blocks of convolution, normalisation and ReLU; 1: linear layers
  std::int32_t examples;    // n
  std::int32_t channels;    // of an input image, or its numbers
  std::int32_t height, width;
  std::int32_t depth;       // blocks, or hidden layers; MOST_LAYERS at most
  std::int32_t units;       // filters of a block, or units of a layer
  std::int32_t stride;      // 1 or 2
  std::int32_t pool;        // whether 2x2 maxima are taken
  std::int32_t flatten;     // whether all positions are features; else their mean
  std::int32_t activation;  // of linear layers: 0 ReLU, 1 tanh
  std::int32_t outputs;     // N; 0: there is no head
  std::int32_t objective;   // 0 cross-entropy, 1 squared error
  std::int32_t keep;        // how many derivatives the pass is kept for: 0, 1 or 2
  std::int32_t lowest;      // the first derivative is wanted from this layer on; depth: of the head alone
  double epsilon;           // of normalisation
  double scale;             // of the loss
};

}

namespace metadist {

using Shape = metadist_shape;

constexpr int MOST_LAYERS = 16;
constexpr int PARAMETERS_OF_LAYER = 3;  // weight, scale, shift (or bias); any but the weight may be missing

// Tensors of all layers and then the head's weight and bias, by pointers that may be null.
template <class T>
struct Tensors {
  T* const* pointers;
  int depth;

  T* weight(int layer) const { return pointers[PARAMETERS_OF_LAYER * layer]; }
  T* scale(int layer) const { return pointers[PARAMETERS_OF_LAYER * layer + 1]; }
  T* shift(int layer) const { return pointers[PARAMETERS_OF_LAYER * layer + 2]; }
  T* head_weight() const { return pointers[PARAMETERS_OF_LAYER * depth]; }
  T* head_bias() const { return pointers[PARAMETERS_OF_LAYER * depth + 1]; }
  // Whether anything of layers 0 ... layer is there.
  bool reach(int layer) const {
    for (int i = 0; i < PARAMETERS_OF_LAYER * (layer + 1); i++)
      if (pointers[i] != nullptr) return true;
    return false;
  }
};

// Places in one piece of memory, handed out one after the other, each beginning at a cache line.
struct Places {
  Index used = 0;

  Index take(Index count) {
    const Index place = used;
    used += (count + 15) / 16 * 16;
    return place;
  }
};

}  // namespace metadist
