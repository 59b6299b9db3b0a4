// Which inputs a 3x3 convolution with padding 1 reads for an output, along one axis.
//
// Forward, output o reads input i = stride * o - 1 + k for the kernel's k = 0, 1, 2; backward, input i
// receives from output o = (i + 1 - k) / stride where that is whole. Either way, neighbours that read with
// the same k form a run, so that the inner loops never ask where an image ends: there are at most three
// runs (first, middle, last) for each of the positions modulo the stride.
#pragma once

#include "vectors.h"

namespace metadist {

struct Run {
  int first, step, count;  // outputs first, first + step, ...
  int taps;                // how many k
  int tap[3], from[3];     // k, and the input that the first output reads with it
};

struct Axis {
  Run runs[8];
  int size = 0;     // runs in use
  int advance = 1;  // inputs from one output of a run to the next
  int outputs = 0;

  void add(const Run& run) {
    if (size > 0) {
      Run& last = runs[size - 1];
      bool same = last.taps == run.taps && last.step == run.step && last.first + last.count * last.step == run.first;
      for (int j = 0; same && j < run.taps; j++) same = last.tap[j] == run.tap[j];
      if (same) {
        last.count++;
        return;
      }
    }
    runs[size++] = run;
  }
};

inline int convolved(int inputs, int stride) { return (inputs - 1) / stride + 1; }

inline Axis forward_axis(int inputs, int stride) {
  Axis axis;
  axis.advance = stride;
  axis.outputs = convolved(inputs, stride);
  for (int o = 0; o < axis.outputs; o++) {
    Run run{o, 1, 1, 0, {}, {}};
    for (int k = 0; k < 3; k++) {
      const int i = stride * o - 1 + k;
      if (i < 0 || i >= inputs) continue;
      run.tap[run.taps] = k;
      run.from[run.taps++] = i;
    }
    axis.add(run);
  }
  return axis;
}

// Of inputs with a border of zeros already around them, whose k side by side are read as one.
inline Axis bordered_axis(int inputs, int stride, bool together) {
  Axis axis;
  axis.advance = stride;
  axis.outputs = convolved(inputs, stride);
  Run run{0, 1, axis.outputs, together ? 1 : 3, {0, 1, 2}, {0, 1, 2}};
  axis.runs[axis.size++] = run;
  return axis;
}

inline Axis backward_axis(int inputs, int stride) {
  Axis axis;
  axis.outputs = inputs;
  const int outputs = convolved(inputs, stride);
  for (int phase = 0; phase < stride; phase++) {
    for (int i = phase; i < inputs; i += stride) {
      Run run{i, stride, 1, 0, {}, {}};
      for (int k = 0; k < 3; k++) {
        const int o = i + 1 - k;
        if (o < 0 || o % stride != 0 || o / stride >= outputs) continue;
        run.tap[run.taps] = k;
        run.from[run.taps++] = o / stride;
      }
      axis.add(run);
    }
  }
  return axis;
}

}  // namespace metadist
