// Every call of the kernels on buffers of exactly the size that they ask for, for a sanitizer to watch.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "shape.h"

#define DECLARE(T, S)                                                                                             \
  extern "C" int metadist_lanes_##S();                                                                            \
  extern "C" void metadist_sizes_##S(const metadist_shape*, std::int64_t*);                                       \
  extern "C" void metadist_forward_##S(const metadist_shape*, const T*, const T* const*, T*, T*, T*);             \
  extern "C" void metadist_backward_##S(const metadist_shape*, const T* const*, T*, T*, double, const T*, T* const*); \
  extern "C" int metadist_loss_##S(const metadist_shape*, const T*, const void*, const T* const*, T*, T*, T*, T*, T*, \
                                   T* const*);                                                                    \
  extern "C" void metadist_tangent_##S(const metadist_shape*, const T* const*, const T* const*, double, T*, T*, T* const*); \
  struct Api_##S {                                                                                                \
    using Number = T;                                                                                             \
    static constexpr auto lanes = metadist_lanes_##S;                                                             \
    static constexpr auto sizes = metadist_sizes_##S;                                                             \
    static constexpr auto forward = metadist_forward_##S;                                                         \
    static constexpr auto backward = metadist_backward_##S;                                                       \
    static constexpr auto loss = metadist_loss_##S;                                                               \
    static constexpr auto tangent = metadist_tangent_##S;                                                         \
  };
DECLARE(float, f32)
DECLARE(double, f64)

template <class Api>
struct Run {
  using T = typename Api::Number;
  using Buffer = std::vector<T>;

  static T number() { return static_cast<T>(std::rand() % 2001 - 1000) / 1000; }
  static Buffer buffer(std::int64_t size) {
    Buffer values(size);
    for (T& value : values) value = number();
    return values;
  }
  static int whole(int channels) { return (channels + Api::lanes() - 1) / Api::lanes() * Api::lanes(); }

  // Of each parameter how many numbers are stored.
  static std::vector<std::int64_t> parameters(const metadist_shape& s, std::int64_t features) {
    std::vector<std::int64_t> sizes;
    const int taps = s.kind == 0 ? 9 : 1;
    for (int layer = 0; layer < s.depth; layer++) {
      const int inputs = layer == 0 ? s.channels : whole(s.units);
      sizes.push_back(static_cast<std::int64_t>(taps) * inputs * whole(s.units));
      sizes.push_back(whole(s.units));
      sizes.push_back(whole(s.units));
    }
    sizes.push_back(s.outputs * features);
    sizes.push_back(s.outputs);
    return sizes;
  }

  static std::vector<T*> pointers(std::vector<Buffer>& buffers) {
    std::vector<T*> found;
    for (Buffer& one : buffers) found.push_back(one.data());
    return found;
  }

  static void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
  }

  static void all_of(metadist_shape s) {
    for (int keep = 0; keep <= 2; keep++)
      for (int lowest = 0; lowest <= s.depth; lowest += keep == 2 ? 1 : s.depth) {
        s.keep = keep;
        s.lowest = lowest;
        one(s, lowest % 2 == 0);
      }
  }

  static void one(const metadist_shape& s, bool everything) {
    std::int64_t sizes[4];
    Api::sizes(&s, sizes);
    std::vector<Buffer> params, gradients, directions;
    for (std::int64_t size : parameters(s, sizes[3])) {
      params.push_back(buffer(size));
      gradients.push_back(buffer(size));
      directions.push_back(buffer(size));
    }
    std::vector<T*> p = pointers(params), g = pointers(gradients), d = pointers(directions);
    if (!everything) {  // scale, shift and some directions may be missing
      p[1] = nullptr;
      if (s.kind == 0) p[2] = nullptr;
      d[0] = d[d.size() - 1] = nullptr;
      g[1] = nullptr;
    }
    Buffer x = buffer(static_cast<std::int64_t>(s.examples) * s.channels * s.height * s.width);
    Buffer state = buffer(sizes[0]), scratch = buffer(sizes[1]), scratch2 = buffer(sizes[2]);
    const std::int64_t results = static_cast<std::int64_t>(s.examples) * (s.outputs ? s.outputs : sizes[3]);
    Buffer outputs = buffer(results), upstream = buffer(results);
    Buffer statistics = buffer(static_cast<std::int64_t>(s.depth) * 2 * whole(s.units)), loss(1);
    Buffer values = buffer(results);
    std::vector<std::int64_t> labels(s.examples);
    for (int i = 0; i < s.examples; i++) labels[i] = s.outputs ? i % s.outputs : 0;
    const void* targets = s.objective == 1 ? static_cast<const void*>(values.data()) : labels.data();
    T* measured = s.kind == 0 ? statistics.data() : nullptr;
    if (s.outputs == 0) {
      Api::forward(&s, x.data(), p.data(), state.data(), outputs.data(), measured);
      if (s.keep == 1 && s.lowest < s.depth)
        Api::backward(&s, p.data(), state.data(), scratch.data(), 0.0, upstream.data(), g.data());
      return;
    }
    Api::forward(&s, x.data(), p.data(), state.data(), outputs.data(), nullptr);
    T* const* wanted = s.keep == 2 ? g.data() : nullptr;
    check(Api::loss(&s, x.data(), targets, p.data(), state.data(), scratch.data(), outputs.data(), loss.data(), measured,
                    wanted) == 0,
          "labels were refused");
    if (s.keep == 1) Api::backward(&s, p.data(), state.data(), scratch.data(), 0.5, upstream.data(), g.data());
    if (s.keep == 2) Api::tangent(&s, p.data(), d.data(), 0.7, state.data(), scratch2.data(), g.data());
    if (s.objective == 0) {
      labels[0] = s.outputs;
      check(Api::loss(&s, x.data(), labels.data(), p.data(), state.data(), scratch.data(), outputs.data(), loss.data(),
                      nullptr, nullptr) == 1,
            "a label that is none was taken");
    }
  }

  static void everything() {
    for (int channels : {1, 3})
      for (int size : {16, 19, 28})
        for (int units : {1, 5, 16, 24})
          for (int form = 0; form < 4; form++) {
            const int pool = form & 1, flatten = form >> 1;
            metadist_shape s{};
            s.examples = 3 + size % 2;
            s.channels = channels;
            s.height = size;
            s.width = size + 1;
            s.depth = 4;
            s.units = units;
            s.stride = pool ? 1 : 2;
            s.pool = pool;
            s.flatten = flatten;
            s.epsilon = 1e-3;
            s.scale = 2;
            for (int outputs : {0, 1, 5}) {
              s.outputs = outputs;
              s.objective = outputs == 1;
              all_of(s);
            }
          }
    for (int depth : {1, 3})
      for (int units : {1, 7, 40})
        for (int activation : {0, 1}) {
          metadist_shape s{};
          s.kind = 1;
          s.examples = 13;
          s.channels = depth == 1 ? 1 : 150;
          s.height = s.width = 1;
          s.depth = depth;
          s.units = units;
          s.activation = activation;
          s.scale = 1;
          for (int outputs : {0, 1, 5}) {
            s.outputs = outputs;
            s.objective = outputs == 1;
            all_of(s);
          }
        }
  }
};

int main() {
  Run<Api_f32>::everything();
  Run<Api_f64>::everything();
  std::puts("clean");
}
