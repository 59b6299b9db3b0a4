"""y = A sin(x - b), A in [0.1, 5], b in [0, pi], x in [-5, 5]: MAML's regression benchmark.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
ICML 2017, section 5.1. No predictor that does not see the support can have a mean squared error
below E Var[y|x] = 3.006.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.functions import FunctionSpec
from data_pipeline.streams import Stream

SPEC = FunctionSpec(
    name="sinusoid",
    summary="y = A sin(x - b), A in [0.1, 5], b in [0, pi], x in [-5, 5]",
    inputs=1,
    outputs=1,
    latent=("amplitude", "phase"),
    version=1,
    citation="Finn, Abbeel & Levine, ICML 2017, section 5.1",
)

_PI = 3.141592653589793
# Taylor coefficients of sin about 0; on [-pi/2, pi/2] the first term left out is below 2e-17.
_COEFFICIENTS = (
    -1 / 6,
    1 / 120,
    -1 / 5040,
    1 / 362880,
    -1 / 39916800,
    1 / 6227020800,
    -1 / 1307674368000,
    1 / 355687428096000,
    -1 / 121645100408832000,
    1 / 51090942171709440000,
)


def sine(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """sin(x) for |x| < 100 from + - * and floor alone.

    The library's sine differs in its last bits between CPUs; episodes must not.
    """
    turns = np.floor(x / _PI + 0.5)
    r = x - turns * _PI
    square = r * r
    total = np.zeros_like(r)
    for coefficient in reversed(_COEFFICIENTS):
        total = (total + coefficient) * square
    odd = turns - 2.0 * np.floor(turns / 2.0)
    return (r + r * total) * (1.0 - 2.0 * odd)


def draw(
    stream: Stream, points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """One sinusoid: x [points, 1], y [points, 1], latent [amplitude, phase]."""
    numbers = stream.uniforms(2 + points)
    amplitude = 0.1 + 4.9 * numbers[0]
    phase = _PI * numbers[1]
    x = 10.0 * numbers[2:, None] - 5.0
    return x, amplitude * sine(x - phase), np.array([amplitude, phase])
