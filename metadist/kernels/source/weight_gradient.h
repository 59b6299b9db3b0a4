// The weights' gradient of a convolution, or of a linear layer:
//
//   dw[kh][kw][ci][co] = sum over n, oh, ow of  x[n][s oh - 1 + kh][s ow - 1 + kw][ci] dy[n][oh][ow][co]
//
// R rows ci and NV vectors of co stay in registers while the pixels go by. Each stretch of pixels is summed
// from zero and then added to the rest, so that no chain of float additions is long.
#pragma once

#include "convolution.h"

namespace metadist {

constexpr int STRETCH = 256;

// Pixels that are summed over, as three nested loops, the innermost last: counts, and what one more of each
// is in x and dy.
struct Walk {
  int count[3];
  Index x[3], dy[3];
};

template <class T, int R, int NV>
void gradient_tile(const Sources<T>& sources, const Walk& walk, int columns, bool add, T* out) {
  Vector<T> total[R][NV], sums[R][NV];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++) {
      total[r][v] = add ? load<T>(out + static_cast<Index>(r) * columns + v * LANES<T>) : Vector<T>{};
      sums[r][v] = Vector<T>{};
    }
  int chain = 0;
  for (int s = 0; s < sources.size; s++)
    for (int i = 0; i < walk.count[0]; i++)
      for (int j = 0; j < walk.count[1]; j++) {
        const T* x = sources.source[s].input + i * walk.x[0] + j * walk.x[1];
        const T* dy = sources.source[s].weights + i * walk.dy[0] + j * walk.dy[1];
        for (int k = 0; k < walk.count[2]; k++) {
          Vector<T> g[NV];
#pragma GCC unroll 8
          for (int v = 0; v < NV; v++) g[v] = load<T>(dy + v * LANES<T>);
#pragma GCC unroll 16
          for (int r = 0; r < R; r++) {
            const Vector<T> value = all<T>(x[r]);
#pragma GCC unroll 8
            for (int v = 0; v < NV; v++) sums[r][v] += value * g[v];
          }
          x += walk.x[2];
          dy += walk.dy[2];
        }
        chain += walk.count[2];
        if (chain < STRETCH) continue;
        chain = 0;
        for (int r = 0; r < R; r++)
          for (int v = 0; v < NV; v++) {
            total[r][v] += sums[r][v];
            sums[r][v] = Vector<T>{};
          }
      }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++)
      store<T>(out + static_cast<Index>(r) * columns + v * LANES<T>, total[r][v] + sums[r][v]);
}

template <class T>
using GradientTile = void (*)(const Sources<T>&, const Walk&, int, bool, T*);

template <class T, int NV, class Numbers = std::make_integer_sequence<int, MOST_ROWS<NV>>>
struct GradientTiles;
template <class T, int NV, int... R>
struct GradientTiles<T, NV, std::integer_sequence<int, R...>> {
  static constexpr GradientTile<T> of_rows[] = {gradient_tile<T, R + 1, NV>...};
};

// out[rows][columns] = sum over the walk of x[0 .. rows) times dy[0 .. columns).
template <class T>
void outer_products(const Sources<T>& sources, const Walk& walk, int rows, int columns, bool add, T* out) {
  for_column_blocks<T>(columns, [&](auto vectors, int first) {
    constexpr int NV = decltype(vectors)::value;
    for_tiles<MOST_ROWS<NV>>(rows, [&](int size, Index begin) {
      Sources<T> tile = sources;
      for (int s = 0; s < tile.size; s++) {
        tile.source[s].input += begin;
        tile.source[s].weights += first;
      }
      GradientTiles<T, NV>::of_rows[size - 1](tile, walk, columns, add, out + begin * columns + first);
    });
  });
}

// Outputs that read inside an image of so many inputs with the kernel's k: the first, and how many.
struct Reach {
  int first, count;
};
inline Reach reach(int inputs, int outputs, int stride, int k) {
  int first = 0, end = outputs;
  while (first < end && stride * first - 1 + k < 0) first++;
  while (end > first && stride * (end - 1) - 1 + k >= inputs) end--;
  return {first, end - first};
}

// Images whose x and dy stay in the second cache while all k go over them.
constexpr Index CACHED_BYTES = 640 << 10;

template <class T>
void convolution_gradient(const Convolution& conv, const Sources<T>& sources, T* dw) {
  const Index image = conv.input_image(), out_image = conv.output_image();
  const Index bytes = (image + out_image) * sources.size * static_cast<Index>(sizeof(T));
  const Index fitting = bytes > 0 && CACHED_BYTES > bytes ? CACHED_BYTES / bytes : 1;
  const int blocks = static_cast<int>((conv.examples + fitting - 1) / fitting);
  const int kernel_width = conv.bordered ? 1 : 3, rows = conv.bordered ? 3 * conv.channels : conv.channels;
  const int row_step = conv.bordered ? rows : conv.channel_step;
  int begin = 0;
  for (int block = 0; block < blocks; block++) {
    const int examples = conv.examples / blocks + (block < conv.examples % blocks);
    for (int kh = 0; kh < 3; kh++)
      for (int kw = 0; kw < kernel_width; kw++) {
        Reach down{0, conv.out_height()}, across{0, conv.out_width()};
        Index pixel = kh * conv.input_row();
        if (!conv.bordered) {
          down = reach(conv.height, conv.out_height(), conv.stride, kh);
          across = reach(conv.width, conv.out_width(), conv.stride, kw);
          pixel = (conv.stride * down.first - 1 + kh) * conv.input_row() +
                  static_cast<Index>(conv.stride * across.first - 1 + kw) * conv.channel_step;
        }
        Sources<T> moved = sources;
        for (int s = 0; s < moved.size; s++) {
          moved.source[s].input += begin * image + pixel;
          moved.source[s].weights += begin * out_image + down.first * conv.output_row() +
                                     static_cast<Index>(across.first) * conv.filter_step;
        }
        const Index x_row = conv.stride * conv.input_row();
        const Index x_pixel = static_cast<Index>(conv.stride) * conv.channel_step;
        Walk walk{{examples, down.count, across.count},
                  {image, x_row, x_pixel},
                  {out_image, conv.output_row(), conv.filter_step}};
        if (across.count < examples && across.count < 6)  // the longer loop belongs inside
          walk = {{across.count, down.count, examples},
                  {x_pixel, x_row, image},
                  {conv.filter_step, conv.output_row(), out_image}};
        T* out = dw + static_cast<Index>(kh * kernel_width + kw) * row_step * conv.filter_step;
        outer_products<T>(moved, walk, rows, conv.filter_step, block > 0, out);
      }
    begin += examples;
  }
}

}  // namespace metadist
