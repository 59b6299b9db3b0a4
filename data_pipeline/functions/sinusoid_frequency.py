"""y = A sin(w x + b), A in [0.1, 5], w in [0.8, 1.2], b in [0, pi], x in [-5, 5].

The sinusoids of Meta-SGD (Li et al., 2017) and of T-nets and MT-nets (Lee & Choi,
ICML 2018): the frequency varies too. The floor is
E[A²]/2 - E[A]² (2/pi)² E[c(x)²], where c(x) is the mean of cos(w x) over w,
(sin(1.2 x) - sin(0.8 x)) / (0.4 x); the last expectation is 0.4315066005984767 by quadrature.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.datasets import Part
from data_pipeline.functions import Drawn, FunctionSpec
from data_pipeline.functions._portable import PI, sine
from data_pipeline.rng import Stream

SPEC = FunctionSpec(
    name="sinusoid_frequency",
    summary="y = A sin(w x + b), A in [0.1, 5], w in [0.8, 1.2], b in [0, pi], x in [-5, 5]",
    inputs=1,
    outputs=1,
    latent=("amplitude", "frequency", "phase"),
    version=1,
    citation="Li et al., Meta-SGD, 2017; Lee & Choi, ICML 2018",
    floor=3.1144897114963466,
)


def draw(stream: Stream, points: int, part: Part) -> Drawn:
    """One sinusoid: x [points, 1], y [points, 1], latent [amplitude, frequency, phase]."""
    numbers = stream.uniforms(3 + points)
    amplitude = 0.1 + 4.9 * numbers[0]
    frequency = 0.8 + 0.4 * numbers[1]
    phase = PI * numbers[2]
    x = 10.0 * numbers[3:, None] - 5.0
    return x, amplitude * sine(frequency * x + phase), np.array([amplitude, frequency, phase])
