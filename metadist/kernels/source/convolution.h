// A 3x3 convolution with padding 1 and stride 1 or 2, channels last:
//
//   y[n][oh][ow][co]  = sum x[n][s oh - 1 + kh][s ow - 1 + kw][ci] w[kh][kw][ci][co]
//   dx[n][ih][iw][ci] = sum dy[n][oh][ow][co] w[kh][kw][ci][co]      over all (oh, kh, ow, kw) that read (ih, iw)
//
// Both gather: an output pixel is a product of a few pieces of the input with rows of the weights, so there
// is no copy of the input (im2col) in memory. dx takes the weights as [kh][kw][co][ci].
//
// The first block's input has few channels: it is stored with a border of zeros, and the three kw of a row
// are one piece of 3 ci numbers.
#pragma once

#include "geometry.h"
#include "product.h"

namespace metadist {

struct Convolution {
  int examples, height, width;  // of the input, without border
  int channels;                 // ci, of the input
  int channel_step;             // numbers from one input pixel to the next
  int filters;                  // co
  int filter_step;              // numbers from one output pixel to the next: co in whole vectors
  int stride;
  bool bordered;                // the input has a border of zeros

  int out_height() const { return convolved(height, stride); }
  int out_width() const { return convolved(width, stride); }
  Index input_row() const { return static_cast<Index>(width + (bordered ? 2 : 0)) * channel_step; }
  Index input_image() const { return input_row() * (height + (bordered ? 2 : 0)); }
  Index output_row() const { return static_cast<Index>(out_width()) * filter_step; }
  Index output_image() const { return output_row() * out_height(); }
  Index pixels() const { return static_cast<Index>(examples) * out_height() * out_width(); }
};

// What gather() reads: pixels of so many numbers, and how they lie.
struct Pixels {
  int length;  // numbers of a piece
  int rows;    // of the weights for one k
  int step;    // from one pixel to the next
  Index row, image;
};

// Output pixels that are taken together: whole images, at least one. So many pixels make full tiles of small
// images, and what they read and write stays in the second cache while all their filters are computed.
constexpr int TOGETHER = 512;

// out[n][rows][columns][first ... first + NV vectors) of `width` numbers a pixel, for some of the images.
template <class T, int NV>
void gather_columns(const Axis& rows, const Axis& columns, int kernel_width, int begin, int end,
                    const Sources<T>& sources, const Pixels& in, int width, int first, T* out) {
  constexpr int MOST = MOST_ROWS<NV>;
  const Index out_row = static_cast<Index>(columns.outputs) * width, out_image = out_row * rows.outputs;
  for (int a = 0; a < rows.size; a++)
    for (int b = 0; b < columns.size; b++) {
      const Run &down = rows.runs[a], &across = columns.runs[b];
      Piece pieces[9];
      int count = 0;
      for (int k = 0; k < down.taps; k++)
        for (int m = 0; m < across.taps; m++) {
          const Index pixel = down.from[k] * in.row + static_cast<Index>(across.from[m]) * in.step;
          const Index tap = down.tap[k] * kernel_width + across.tap[m];
          pieces[count++] = {pixel, tap * in.rows, in.length};
        }
      // All pixels of these runs read alike, whatever their row and image.
      const Index x_step = static_cast<Index>(columns.advance) * in.step, x_row = rows.advance * in.row;
      const Index step = static_cast<Index>(across.step) * width, row = down.step * out_row;
      const Index corner = down.first * out_row + static_cast<Index>(across.first) * width;
      int c = 0, j = 0, n = begin;
      for_tiles<MOST>(static_cast<Index>(end - begin) * down.count * across.count, [&](int size, Index) {
        Index inputs[MOST], outputs[MOST];
        for (int r = 0; r < size; r++) {
          inputs[r] = n * in.image + j * x_row + c * x_step;
          outputs[r] = n * out_image + corner + j * row + c * step;
          if (++c < across.count) continue;
          c = 0;
          if (++j < down.count) continue;
          j = 0;
          n++;
        }
        ProductTiles<T, NV>::of_rows[size - 1](sources, inputs, outputs, pieces, count, width, first, out);
      });
    }
}

template <class T>
void gather(const Axis& rows, const Axis& columns, int kernel_width, int examples, const Sources<T>& sources,
            const Pixels& in, int width, T* out) {
  const int image = rows.outputs * columns.outputs, together = image < TOGETHER ? (TOGETHER + image - 1) / image : 1;
  for (int begin = 0; begin < examples; begin += together) {
    const int end = begin + together < examples ? begin + together : examples;
    for_column_blocks<T>(width, [&](auto vectors, int first) {
      gather_columns<T, decltype(vectors)::value>(rows, columns, kernel_width, begin, end, sources, in, width, first, out);
    });
  }
}

// y = x * w, and the same for a second source if there is one; no source: zeros.
template <class T>
void convolve(const Convolution& conv, const Sources<T>& sources, T* y) {
  const int length = conv.bordered ? 3 * conv.channels : conv.channels;
  const Pixels in{length, conv.bordered ? length : conv.channel_step, conv.channel_step, conv.input_row(), conv.input_image()};
  const int kernel_width = conv.bordered ? 1 : 3;
  const Axis rows = conv.bordered ? bordered_axis(conv.height, conv.stride, false) : forward_axis(conv.height, conv.stride);
  const Axis columns = conv.bordered ? bordered_axis(conv.width, conv.stride, true) : forward_axis(conv.width, conv.stride);
  gather<T>(rows, columns, kernel_width, conv.examples, sources, in, conv.filter_step, y);
}

// dx of dy and weights [3][3][co][ci in whole vectors]; not of the bordered first block.
template <class T>
void convolve_back(const Convolution& conv, const Sources<T>& sources, T* dx) {
  const Pixels in{conv.filters, conv.filter_step, conv.filter_step, conv.output_row(), conv.output_image()};
  const Axis rows = backward_axis(conv.height, conv.stride), columns = backward_axis(conv.width, conv.stride);
  gather<T>(rows, columns, 3, conv.examples, sources, in, conv.channel_step, dx);
}

// x [n][C][H][W], as images come, to [n][H + 2][W + 2][C] with a border of zeros.
template <class T>
void with_border(const Convolution& conv, const T* x, T* out) {
  const int C = conv.channels, H = conv.height, W = conv.width;
  std::memset(out, 0, sizeof(T) * conv.examples * conv.input_image());
  for (int n = 0; n < conv.examples; n++)
    for (int c = 0; c < C; c++)
      for (int h = 0; h < H; h++) {
        const T* from = x + ((static_cast<Index>(n) * C + c) * H + h) * W;
        T* to = out + n * conv.input_image() + (h + 1) * conv.input_row() + C + c;
        for (int w = 0; w < W; w++) to[static_cast<Index>(w) * C] = from[w];
      }
}

}  // namespace metadist
