// Single operations for whoever wants to look at one of them: tests compare each with torch. Included by
// abi.cpp, in whose types they are. Tensors as convolution.h and norm.h describe them.
#pragma once

struct metadist_block {
  std::int32_t examples, height, width, channels, filters, stride, bordered, pool;
  double epsilon;
};

namespace {

metadist::Convolution convolution_of(const metadist_block& b) {
  const int step = b.bordered ? b.channels : metadist::whole_vectors<T>(b.channels);
  return {b.examples, b.height,   b.width, b.channels, step, b.filters, metadist::whole_vectors<T>(b.filters),
          b.stride,   b.bordered != 0};
}

// Of a normalisation, height, width and filters are those of its input.
metadist::NormShape norm_of(const metadist_block& b) {
  return {b.examples, b.height, b.width, metadist::whole_vectors<T>(b.filters), b.pool != 0, b.epsilon};
}

metadist::NormMoments<T> moments_of(const metadist_block& b, T* m) {
  const int C = metadist::whole_vectors<T>(b.filters);
  return {m, m + C, m + 2 * C, m + 3 * C};
}

metadist::TangentMoments<T> tangent_moments_of(const metadist_block& b, T* m) {
  const int C = metadist::whole_vectors<T>(b.filters);
  return {m + 4 * C, m + 5 * C};
}

metadist::Sources<T> sources_of(const T* a, const T* b, const T* c, const T* d) {
  metadist::Sources<T> sources;
  sources.add(a, b);
  sources.add(c, d);
  return sources;
}

}  // namespace

EXPORTED void JOINED(metadist_border, SUFFIX)(const metadist_block* b, const T* x, T* out) {
  metadist::with_border<T>(convolution_of(*b), x, out);
}

EXPORTED void JOINED(metadist_convolve, SUFFIX)(const metadist_block* b, const T* x, const T* w, const T* x1, const T* w1,
                                                T* y) {
  metadist::convolve<T>(convolution_of(*b), sources_of(x, w, x1, w1), y);
}

EXPORTED void JOINED(metadist_transpose, SUFFIX)(int taps, int rows, int columns, const T* from, T* to) {
  metadist::transpose<T>(taps, rows, columns, from, to);
}

// Weights [3][3][filters][channels].
EXPORTED void JOINED(metadist_convolve_back, SUFFIX)(const metadist_block* b, const T* dy, const T* w, const T* dy1,
                                                     const T* w1, T* dx) {
  metadist::convolve_back<T>(convolution_of(*b), sources_of(dy, w, dy1, w1), dx);
}

EXPORTED void JOINED(metadist_convolution_gradient, SUFFIX)(const metadist_block* b, const T* x, const T* dy, const T* x1,
                                                            const T* dy1, T* dw) {
  metadist::convolution_gradient<T>(convolution_of(*b), sources_of(x, dy, x1, dy1), dw);
}

// Moments [6][C]: mean, r, mean g, mean x g, mean y', mean x y'; each call writes its own.
EXPORTED void JOINED(metadist_norm, SUFFIX)(const metadist_block* b, const T* y, const T* gamma, const T* beta, T* moments,
                                            T* z, T* variance) {
  metadist::norm_forward<T>(norm_of(*b), {gamma, beta}, moments_of(*b, moments), y, z, variance);
}

EXPORTED void JOINED(metadist_norm_backward, SUFFIX)(const metadist_block* b, const T* y, const T* gamma, const T* beta,
                                                     T* moments, const T* dz, T* dy, T* dgamma, T* dbeta) {
  metadist::norm_backward<T>(norm_of(*b), {gamma, beta}, moments_of(*b, moments), y, dz, dy, dgamma, dbeta);
}

EXPORTED void JOINED(metadist_norm_tangent, SUFFIX)(const metadist_block* b, const T* y, const T* gamma, const T* beta,
                                                    T* moments, const T* y1, const T* gamma1, const T* beta1, T* z1) {
  metadist::norm_tangent_forward<T>(norm_of(*b), {gamma, beta}, moments_of(*b, moments), {gamma1, beta1},
                                    tangent_moments_of(*b, moments), y, y1, z1);
}

EXPORTED void JOINED(metadist_norm_tangent_backward, SUFFIX)(const metadist_block* b, const T* y, const T* gamma,
                                                             const T* beta, T* moments, const T* y1, const T* gamma1,
                                                             const T* beta1, const T* dz, const T* dz1, T* dy1, T* dgamma1,
                                                             T* dbeta1) {
  metadist::norm_tangent_backward<T>(norm_of(*b), {gamma, beta}, moments_of(*b, moments), {gamma1, beta1},
                                     tangent_moments_of(*b, moments), y, y1, dz, dz1, dy1, dgamma1, dbeta1);
}

// Of each number: e^x, ln x, tanh x.
EXPORTED void JOINED(metadist_elementary, SUFFIX)(std::int64_t count, const T* x, T* exponentials, T* logarithms,
                                                  T* tangents) {
  for (std::int64_t i = 0; i < count; i++) {
    exponentials[i] = static_cast<T>(metadist::exponential(x[i]));
    logarithms[i] = static_cast<T>(metadist::logarithm(x[i]));
    tangents[i] = static_cast<T>(metadist::hyperbolic_tangent(x[i]));
  }
}
