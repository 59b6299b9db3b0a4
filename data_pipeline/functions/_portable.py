"""Sine, logarithm and normal quantiles whose bits are the same on every machine.

The libraries' own differ in their last bits between CPUs and versions; episodes must not. Only
``+ - * / sqrt floor frexp`` of float64 are used, which IEEE 754 defines to the last bit.
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PI = 3.141592653589793
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
# Taylor coefficients of sin about 0; on [-pi/2, pi/2] the first term left out is below 2e-17.
_FACTORIALS = tuple(accumulate(range(1, 22), mul))
_SINE = tuple((1 if k % 2 else -1) / f for k, f in enumerate(_FACTORIALS[2::2]))
# Terms of artanh after the first; with |s| < 0.172 the first left out is below 1e-19 of the sum.
_ARTANH_TERMS = 11


def _tables(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    numbers = tuple(map(float, text.split()))
    return numbers[:8], numbers[8:]


# Wichura's coefficients, the constant term first: numerators and denominators of the rational
# approximations in the middle, towards the tails, and far out.
_MIDDLE = _tables(
    """
    3.3871328727963666080e0 1.3314166789178437745e2 1.9715909503065514427e3 1.3731693765509461125e4
    4.5921953931549871457e4 6.7265770927008700853e4 3.3430575583588128105e4 2.5090809287301226727e3
    1.0 4.2313330701600911252e1 6.8718700749205790830e2 5.3941960214247511077e3
    2.1213794301586595867e4 3.9307895800092710610e4 2.8729085735721942674e4 5.2264952788528545610e3
    """
)
_TAIL = _tables(
    """
    1.42343711074968357734e0 4.63033784615654529590e0 5.76949722146069140550e0
    3.64784832476320460504e0 1.27045825245236838258e0 2.41780725177450611770e-1
    2.27238449892691845833e-2 7.74545014278341407640e-4
    1.0 2.05319162663775882187e0 1.67638483018380384940e0 6.89767334985100004550e-1
    1.48103976427480074590e-1 1.51986665636164571966e-2 5.47593808499534494600e-4
    1.05075007164441684324e-9
    """
)
_FAR = _tables(
    """
    6.65790464350110377720e0 5.46378491116411436990e0 1.78482653991729133580e0
    2.96560571828504891230e-1 2.65321895265761230930e-2 1.24266094738807843860e-3
    2.71155556874348757815e-5 2.01033439929228813265e-7
    1.0 5.99832206555887937690e-1 1.36929880922735805310e-1 1.48753612908506148525e-2
    7.86869131145613259100e-4 1.84631831751005468180e-5 1.42151175831644588870e-7
    2.04426310338993978564e-15
    """
)


def sine(x: Floats) -> Floats:
    """sin(x) for \\|x\\| < 100, to about 1e-14."""
    turns = np.floor(x / PI + 0.5)
    r = x - turns * PI
    square = r * r
    total = np.zeros_like(r)
    for coefficient in reversed(_SINE):
        total = (total + coefficient) * square
    odd = turns - 2.0 * np.floor(turns / 2.0)
    return (r + r * total) * (1.0 - 2.0 * odd)


def logarithm(x: Floats) -> Floats:
    """ln(x) for finite x > 0, to about 1e-16 of itself or of ln 2.

    ln(m 2^e) = 2 artanh((m - 1) / (m + 1)) + e ln 2, with m in [1/sqrt(2), sqrt(2)).
    """
    m, e = np.frexp(x)
    small = m < _SQRT_HALF
    m, e = np.where(small, 2.0 * m, m), np.where(small, e - 1, e)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    total = np.zeros_like(s)
    for k in range(_ARTANH_TERMS, 0, -1):
        total = (total + 1.0 / (2 * k + 1)) * square
    return 2.0 * (s + s * total) + e * _LN2


def _ratio(x: Floats, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Floats:
    above, below = (np.full_like(x, side[-1]) for side in coefficients)
    for numerator, denominator in zip(
        coefficients[0][-2::-1], coefficients[1][-2::-1], strict=True
    ):
        above = above * x + numerator
        below = below * x + denominator
    return above / below


def normals(uniforms: Floats) -> Floats:
    """Standard normal numbers from uniforms of :meth:`data_pipeline.rng.Stream.uniforms`.

    The quantile function, by Wichura, "Algorithm AS 241: The Percentage Points of the Normal
    Distribution", Applied Statistics 37 (1988), routine PPND16: relative error about 1e-16. Each
    uniform stands for the middle of its cell of 2**-53, so that both tails are alike and nothing
    is infinite; the largest number is 8.3.
    """
    # Exact: the smaller of the cell's distances to 0 and 1 fits 53 bits.
    tail = np.minimum(uniforms, (1.0 - 2.0**-53) - uniforms) + 2.0**-54
    q = 0.5 - tail
    # Each approximation is evaluated where it holds and, for the others' sake, nowhere else.
    near = np.minimum(q, 0.425)
    middle = near * _ratio(0.180625 - near * near, _MIDDLE)
    r = np.sqrt(-logarithm(np.minimum(tail, 0.075)))
    outer = np.where(
        r <= 5.0,
        _ratio(np.minimum(r, 5.0) - 1.6, _TAIL),
        _ratio(np.maximum(r, 5.0) - 5.0, _FAR),
    )
    return np.where(uniforms < 0.5, -1.0, 1.0) * np.where(q <= 0.425, middle, outer)
