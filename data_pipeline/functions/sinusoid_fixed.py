"""y = A sin(u) + noise of 0.1; the input [u, one-hot of A] gives every training task away.

The sinusoid that is not mutually exclusive, of Yin et al., "Meta-Learning without Memorization",
ICLR 2020. In training A is one of 20 values in equal distances from 0.1 to 4, and the
one-hot says which: one function of the input fits all training tasks, and a learner that has
memorised it has no use for the support. In validation and test A is any number in [0.1, 4] and the
one-hot is random: it says nothing.

In training a predictor that has memorised the grid reaches 0.01, the variance of the noise,
without the support. The floor given is that of validation and test:
Var[A] E[sin² u] + 0.01 = 3.9²/12 (1/2 - sin(10)/20) + 0.01.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.datasets import Part
from data_pipeline.functions import Drawn, FunctionSpec
from data_pipeline.functions._portable import normals, sine
from data_pipeline.rng import Stream

#: How many amplitudes there are in training.
AMPLITUDES = 20
_NOISE = 0.1

SPEC = FunctionSpec(
    name="sinusoid_fixed",
    summary="y = A sin(u) + noise 0.1, input [u, one-hot of A]; not mutually exclusive",
    inputs=1 + AMPLITUDES,
    outputs=1,
    latent=("amplitude", "one_hot_index"),
    version=1,
    citation="Yin et al., ICLR 2020",
    floor=0.6782273379026138,
)


def draw(stream: Stream, points: int, part: Part) -> Drawn:
    """One sinusoid: x [points, 21], y [points, 1], latent [amplitude, index of the one-hot]."""
    index = stream.below(AMPLITUDES)
    numbers = stream.uniforms(1 + 2 * points)
    place = index / (AMPLITUDES - 1) if part == "train" else numbers[0]
    amplitude = 0.1 + 3.9 * place
    own = numbers[1:].reshape(points, 2)
    u = 10.0 * own[:, :1] - 5.0
    one_hot = np.zeros((points, AMPLITUDES))
    one_hot[:, index] = 1.0
    y = amplitude * sine(u) + _NOISE * normals(own[:, 1:])
    return np.concatenate([u, one_hot], axis=1), y, np.array([amplitude, float(index)])
