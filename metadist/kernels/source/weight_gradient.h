// The weights' gradient of a convolution, or of a linear layer:
//
//   dw[kh][kw][ci][co] = sum over n, oh, ow of  x[n][s oh - 1 + kh][s ow - 1 + kw][ci] dy[n][oh][ow][co]
//
// R rows ci and NV vectors of co stay in registers while the pixels go by. Pixels are taken in stretches, each
// summed from zero and then added to the rest: their x and dy stay in the first cache while all k, ci and co
// go over them, and no chain of float additions is long.
#pragma once

#include "convolution.h"

namespace metadist {

constexpr int STRETCH = 224;  // pixels: a cache line of x and one of dy of each are 28 KiB

// Pixels that are summed over, as three nested loops, the innermost last: counts, and what one more of each
// is in x and dy.
struct Walk {
  int count[3];
  Index x[3], dy[3];
};

template <class T, int R, int NV>
void gradient_tile(const Sources<T>& sources, const Walk& walk, int columns, bool add, T* out) {
  Vector<T> sums[R][NV];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++) sums[r][v] = Vector<T>{};
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
      }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++) {
      T* to = out + static_cast<Index>(r) * columns + v * LANES<T>;
      store<T>(to, add ? load<T>(to) + sums[r][v] : sums[r][v]);
    }
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

// Outputs begin ... end - 1 of an axis that read inside so many inputs with the kernel's k.
struct Reach {
  int first, count;
};
inline Reach reach(int inputs, int begin, int end, int stride, int k) {
  while (begin < end && stride * begin - 1 + k < 0) begin++;
  while (end > begin && stride * (end - 1) - 1 + k >= inputs) end--;
  return {begin, end - begin};
}

// Adds (or sets) what rows top ... bottom - 1 of some images give.
template <class T>
void stretch_gradient(const Convolution& conv, const Sources<T>& sources, int image, int examples, int top, int bottom,
                      bool add, T* dw) {
  const int kernel_width = conv.bordered ? 1 : 3, rows = conv.bordered ? 3 * conv.channels : conv.channels;
  const int row_step = conv.bordered ? rows : conv.channel_step, border = conv.bordered ? 0 : 1;
  const Index x_row = conv.stride * conv.input_row(), x_pixel = static_cast<Index>(conv.stride) * conv.channel_step;
  for (int kh = 0; kh < 3; kh++)
    for (int kw = 0; kw < kernel_width; kw++) {
      Reach down{top, bottom - top}, across{0, conv.out_width()};
      if (!conv.bordered) {
        down = reach(conv.height, top, bottom, conv.stride, kh);
        across = reach(conv.width, 0, conv.out_width(), conv.stride, kw);
      }
      const Index x = image * conv.input_image() + (conv.stride * down.first - border + kh) * conv.input_row() +
                      static_cast<Index>(conv.stride * across.first - border + kw) * conv.channel_step;
      const Index dy = image * conv.output_image() + down.first * conv.output_row() +
                       static_cast<Index>(across.first) * conv.filter_step;
      Sources<T> moved = sources;
      for (int s = 0; s < moved.size; s++) {
        moved.source[s].input += x;
        moved.source[s].weights += dy;
      }
      Walk walk{{examples, down.count, across.count},
                {conv.input_image(), x_row, x_pixel},
                {conv.output_image(), conv.output_row(), conv.filter_step}};
      if (across.count < examples && across.count < 6)  // the longer loop belongs inside
        walk = {{across.count, down.count, examples},
                {x_pixel, x_row, conv.input_image()},
                {conv.filter_step, conv.output_row(), conv.output_image()}};
      T* out = dw + static_cast<Index>(kh * kernel_width + kw) * row_step * conv.filter_step;
      outer_products<T>(moved, walk, rows, conv.filter_step, add, out);
    }
}

template <class T>
void convolution_gradient(const Convolution& conv, const Sources<T>& sources, T* dw) {
  const int height = conv.out_height(), width = conv.out_width();
  const int rows_fitting = STRETCH / width > 0 ? STRETCH / width : 1;
  const int rows = rows_fitting < height ? rows_fitting : height;
  const int images = rows < height ? 1 : rows_fitting / height;
  bool add = false;
  for (int image = 0; image < conv.examples; image += images) {
    const int examples = image + images < conv.examples ? images : conv.examples - image;
    for (int top = 0; top < height; top += rows) {
      const int bottom = top + rows < height ? top + rows : height;
      stretch_gradient<T>(conv, sources, image, examples, top, bottom, add, dw);
      add = true;
    }
  }
}

}  // namespace metadist
