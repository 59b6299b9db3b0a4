// Weights [taps][A][B] to [taps][B][A], for the convolution that carries gradients back. A and B are whole
// vectors. A square of L x L numbers is transposed in registers: log2 L times, halves of pairs of rows change
// places.
#pragma once

#include "vectors.h"

namespace metadist {

#ifdef __clang__  // has no shuffle by a vector of numbers

template <class T>
void transpose_square(const T* from, Index from_row, T* to, Index to_row) {
  for (int i = 0; i < LANES<T>; i++)
    for (int j = 0; j < LANES<T>; j++) to[j * to_row + i] = from[i * from_row + j];
}

#else

template <class T>
struct LaneNumber;
template <>
struct LaneNumber<float> {
  using type = std::int32_t;
};
template <>
struct LaneNumber<double> {
  using type = std::int64_t;
};

template <class T, int S>
ALWAYS_INLINE void exchange(Vector<T> (&rows)[LANES<T>]) {
  constexpr int L = LANES<T>;
  typedef typename LaneNumber<T>::type Numbers __attribute__((vector_size(VECTOR_BYTES)));
  typedef T Aligned __attribute__((vector_size(VECTOR_BYTES)));
  Numbers low, high;
  for (int j = 0; j < L; j++) {
    low[j] = (j & S) ? L + j - S : j;
    high[j] = (j & S) ? L + j : j + S;
  }
#pragma GCC unroll 16
  for (int i = 0; i < L; i++) {
    if (i & S) continue;
    const Aligned a = rows[i], b = rows[i + S];
    rows[i] = __builtin_shuffle(a, b, low);
    rows[i + S] = __builtin_shuffle(a, b, high);
  }
  if constexpr (S > 1) exchange<T, S / 2>(rows);
}

template <class T>
void transpose_square(const T* from, Index from_row, T* to, Index to_row) {
  constexpr int L = LANES<T>;
  Vector<T> rows[L];
#pragma GCC unroll 16
  for (int i = 0; i < L; i++) rows[i] = load<T>(from + i * from_row);
  exchange<T, L / 2>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < L; i++) store<T>(to + i * to_row, rows[i]);
}

#endif

template <class T>
void transpose(int taps, int A, int B, const T* from, T* to) {
  for (int tap = 0; tap < taps; tap++)
    for (int b = 0; b < B; b += LANES<T>)
      for (int a = 0; a < A; a += LANES<T>) {
        const Index square = static_cast<Index>(tap) * A * B;
        transpose_square<T>(from + square + static_cast<Index>(a) * B + b, B, to + square + static_cast<Index>(b) * A + a, A);
      }
}

}  // namespace metadist
