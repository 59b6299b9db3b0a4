// The inner loop of every convolution and linear layer:
//
//   out[r][:] = sum over sources, pieces and j of  input[r][piece.input + j] * weights[piece.row + j][:]
//
// for R rows r and NV vectors of columns, all of whose sums stay in registers. One long chain of float
// additions would lose digits, so a sum that is longer than CHAIN is put aside and a new one begun.
#pragma once

#include <utility>

#include "vectors.h"

namespace metadist {

constexpr int CHAIN = 64;

// Numbers side by side in the input, and the row of the weights that belongs to the first of them.
struct Piece {
  Index input, row;
  int length;
};

template <class T>
struct Source {
  const T* input;
  const T* weights;
};

// Sources: two at most, as the derivative of x * w along (x', w') is x' * w + x * w'.
template <class T>
struct Sources {
  Source<T> source[2];
  int size = 0;

  void add(const T* input, const T* weights) {
    if (input != nullptr && weights != nullptr) source[size++] = {input, weights};
  }
};

template <class T, int R, int NV>
ALWAYS_INLINE void accumulate(const T* const (&rows)[R], Index offset, const T* weights, int length, int columns,
                              Vector<T> (&sums)[R][NV]) {
  for (int j = 0; j < length; j++) {
    Vector<T> w[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; v++) w[v] = load<T>(weights + v * LANES<T>);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const Vector<T> x = all<T>(rows[r][offset + j]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; v++) sums[r][v] += x * w[v];
    }
    weights += columns;
  }
}

template <class T, int R, int NV>
void product_tile(const Sources<T>& sources, const Index* inputs, const Index* outputs, const Piece* pieces,
                  int piece_count, int columns, int first, T* out) {
  Vector<T> sums[R][NV], aside[R][NV];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++) sums[r][v] = Vector<T>{};
  int chain = 0;
  bool put_aside = false;
  for (int s = 0; s < sources.size; s++) {
    const T* rows[R];
    for (int r = 0; r < R; r++) rows[r] = sources.source[s].input + inputs[r];
    for (int p = 0; p < piece_count; p++) {
      for (int begin = 0; begin < pieces[p].length; begin += CHAIN) {
        const int left = pieces[p].length - begin, length = left < CHAIN ? left : CHAIN;
        if (chain > 0 && chain + length > CHAIN) {
          for (int r = 0; r < R; r++)
            for (int v = 0; v < NV; v++) {
              aside[r][v] = put_aside ? aside[r][v] + sums[r][v] : sums[r][v];
              sums[r][v] = Vector<T>{};
            }
          put_aside = true;
          chain = 0;
        }
        const T* weights = sources.source[s].weights + (pieces[p].row + begin) * columns + first;
        accumulate<T, R, NV>(rows, pieces[p].input + begin, weights, length, columns, sums);
        chain += length;
      }
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++) {
      const Vector<T> total = put_aside ? aside[r][v] + sums[r][v] : sums[r][v];
      store<T>(out + outputs[r] + first + v * LANES<T>, total);
    }
}

// Which of x86's registers there are: 32 with AVX-512, else 16; other processors have 32.
#if defined(__x86_64__) && VECTOR_BYTES < 64
constexpr int REGISTERS = 16;
#else
constexpr int REGISTERS = 32;
#endif

// Vectors of columns that a tile may have, and how many rows then share the weights that are loaded: sums,
// weights and one input fill the registers.
constexpr int MOST_VECTORS = REGISTERS == 32 ? 4 : 2;
template <int NV>
constexpr int MOST_ROWS = NV == MOST_VECTORS ? 6 : 12;

template <class T>
using ProductTile = void (*)(const Sources<T>&, const Index*, const Index*, const Piece*, int, int, int, T*);

template <class T, int NV, class Numbers = std::make_integer_sequence<int, MOST_ROWS<NV>>>
struct ProductTiles;
template <class T, int NV, int... R>
struct ProductTiles<T, NV, std::integer_sequence<int, R...>> {
  static constexpr ProductTile<T> of_rows[] = {product_tile<T, R + 1, NV>...};
};

// Calls f(Constant<vectors>, first column) for blocks of columns as wide as a tile may be.
template <class T, class F>
ALWAYS_INLINE void for_column_blocks(int columns, F f) {
  constexpr int L = LANES<T>;
  for (int first = 0; first < columns;) {
    const int vectors = (columns - first) / L;
    if (MOST_VECTORS == 4 && vectors >= 4) {
      f(Constant<MOST_VECTORS>{}, first);
      first += MOST_VECTORS * L;
    } else if (vectors >= 2) {
      f(Constant<2>{}, first);
      first += 2 * L;
    } else {
      f(Constant<1>{}, first);
      first += L;
    }
  }
}

// Rows `count` are cut into tiles of nearly equal size: f(rows of this tile, place in the list).
template <int MOST, class F>
ALWAYS_INLINE void for_tiles(Index count, F f) {
  const Index tiles = (count + MOST - 1) / MOST;
  Index begin = 0;
  for (Index t = 0; t < tiles; t++) {
    const int rows = static_cast<int>(count / tiles + (t < count % tiles));
    f(rows, begin);
    begin += rows;
  }
}

}  // namespace metadist
