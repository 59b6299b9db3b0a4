// Vectors of VECTOR_BYTES bytes, in the notation that GCC and Clang share: the same source gives AVX-512
// (64), AVX2 (32) and, with 16, whatever a processor has (SSE2, NEON). Nothing here knows an instruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef VECTOR_BYTES
#define VECTOR_BYTES 16
#endif

#define ALWAYS_INLINE __attribute__((always_inline)) inline

namespace metadist {

using Index = std::ptrdiff_t;

template <class T>
struct VectorOf {
  static constexpr int lanes = VECTOR_BYTES / sizeof(T);
  // Aligned as one number only: rows of a parameter may start anywhere.
  typedef T type __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};

template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
constexpr int LANES = VectorOf<T>::lanes;

template <class T>
ALWAYS_INLINE Vector<T> load(const T* from) {
  return *reinterpret_cast<const Vector<T>*>(from);
}

template <class T>
ALWAYS_INLINE void store(T* to, Vector<T> value) {
  *reinterpret_cast<Vector<T>*>(to) = value;
}

template <class T>
ALWAYS_INLINE Vector<T> all(T value) {
  return value - Vector<T>{};
}

// The larger of both; what is not a number stays visible.
template <class T>
ALWAYS_INLINE Vector<T> larger(Vector<T> most, Vector<T> value) {
  return value <= most ? most : value;
}

// The sum of the lanes, first to last.
template <class T>
ALWAYS_INLINE T sum(Vector<T> value) {
  T total = 0;
  for (int lane = 0; lane < LANES<T>; lane++) total += value[lane];
  return total;
}

// Channels are stored in whole vectors; what is beyond their number is zero in every tensor.
template <class T>
constexpr int whole_vectors(int channels) {
  return (channels + LANES<T> - 1) / LANES<T> * LANES<T>;
}

template <int N>
struct Constant {
  static constexpr int value = N;
};

// Calls f(Constant<vectors>, first channel) for blocks of at most 4 vectors that make up all channels.
template <class T, class F>
ALWAYS_INLINE void for_channel_blocks(int channels, F f) {
  constexpr int L = LANES<T>;
  int first = 0;
  for (; channels - first >= 4 * L; first += 4 * L) f(Constant<4>{}, first);
  if (channels - first >= 2 * L) {
    f(Constant<2>{}, first);
    first += 2 * L;
  }
  if (channels - first >= L) f(Constant<1>{}, first);
}

}  // namespace metadist
