// exp, log and tanh of one double, written out: a C library's own differ in their last bits from one
// version to the next, and those bits would be part of a run. Errors are below 1e-15, relative.
#pragma once

#include <cstdint>

namespace metadist {

constexpr double LN2_HIGH = 6.93147180369123816490e-01;  // ln 2 = high + low; high ends in zeros
constexpr double LN2_LOW = 1.90821492927058770002e-10;

inline double from_bits(std::uint64_t bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline std::uint64_t to_bits(double value) {
  std::uint64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

// e^x = 2^k e^r with x = k ln 2 + r, |r| <= ln 2 / 2, and the Taylor series of e^r, for x <= 700.
inline double exponential(double x) {
  if (x < -708.0) return 0.0;
  constexpr double ROUND = 6755399441055744.0;  // 1.5 * 2^52: adding it leaves no fraction
  const double shifted = x * 1.44269504088896340736 + ROUND;
  const double k = shifted - ROUND;
  const double r = (x - k * LN2_HIGH) - k * LN2_LOW;
  double series = 1.0;  // 1 + r/1 (1 + r/2 (1 + r/3 ...))
  for (int i = 13; i >= 1; i--) series = 1.0 + series * r / i;
  if (!(k >= -1022.0)) return k < -1022.0 ? 0.0 : x;  // x is not a number
  return series * from_bits(static_cast<std::uint64_t>(static_cast<std::int64_t>(k) + 1023) << 52);
}

// ln x = e ln 2 + 2 atanh(s), s = (m - 1) / (m + 1), x = m 2^e, 1/sqrt 2 <= m < sqrt 2; x normal or inf.
inline double logarithm(double x) {
  if (!(x < 1.7e308)) return x;
  const std::uint64_t bits = to_bits(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double m = from_bits((bits & 0x000fffffffffffffULL) | 0x3ff0000000000000ULL);
  if (m > 1.41421356237309504880) {
    m *= 0.5;
    exponent++;
  }
  const double s = (m - 1.0) / (m + 1.0), square = s * s;
  double series = 0.0;
  for (int i = 21; i >= 3; i -= 2) series = (series + 1.0 / i) * square;
  return exponent * LN2_HIGH + (exponent * LN2_LOW + 2.0 * s * (1.0 + series));
}

// tanh x = x + x^3 P(x^2) / Q(x^2) for small x (Cephes, Moshier 1989), else 1 - 2 / (e^2|x| + 1).
inline double hyperbolic_tangent(double x) {
  const double size = x < 0 ? -x : x;
  if (size < 0.625) {
    const double z = x * x;
    const double p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3;
    const double q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3;
    return x + x * z * p / q;
  }
  if (!(size < 22.0)) return x != x ? x : (x < 0 ? -1.0 : 1.0);
  const double value = 1.0 - 2.0 / (exponential(2.0 * size) + 1.0);
  return x < 0 ? -value : value;
}

}  // namespace metadist
