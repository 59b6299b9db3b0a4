"""y = A sin(x - b), A in [0.1, 5], b in [0, pi], x in [-5, 5]: MAML's regression benchmark.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
ICML 2017, section 5.1. The floor is E[y²] - E[E[y|x]²] = E[A²]/2 - E[A]² (2/pi)² E[cos² x], because
the mean of sin(x - b) over b is -(2/pi) cos x; E[cos² x] = 1/2 + sin(10)/20.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.datasets import Part
from data_pipeline.functions import Drawn, FunctionSpec
from data_pipeline.functions._portable import PI, sine
from data_pipeline.rng import Stream

SPEC = FunctionSpec(
    name="sinusoid",
    summary="y = A sin(x - b), A in [0.1, 5], b in [0, pi], x in [-5, 5]",
    inputs=1,
    outputs=1,
    latent=("amplitude", "phase"),
    version=1,
    citation="Finn, Abbeel & Levine, ICML 2017, section 5.1",
    floor=3.005669355575754,
)


def draw(stream: Stream, points: int, part: Part) -> Drawn:
    """One sinusoid: x [points, 1], y [points, 1], latent [amplitude, phase]."""
    numbers = stream.uniforms(2 + points)
    amplitude = 0.1 + 4.9 * numbers[0]
    phase = PI * numbers[1]
    x = 10.0 * numbers[2:, None] - 5.0
    return x, amplitude * sine(x - phase), np.array([amplitude, phase])
