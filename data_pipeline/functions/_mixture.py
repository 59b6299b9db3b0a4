"""A task is a function of one of several families, each equally likely, with noise of 0.3.

The regression benchmark of Yao et al., "Automated Relational Meta-Learning", ICLR 2020; ranges as
in their released code. x and, where there is a second input, z are in [-5, 5]; families of one
variable have z = 1.

latent is [family, four parameters]. Families count from 0 in the order of :data:`FAMILIES`; their
parameters stand in the order of ``Family.ranges``, and 0 fills the places after the last.

Every family has mean 0 at every input, because of a parameter or phase that is symmetric about it.
The floor is therefore the mean of E[y²] over the families plus 0.09, the variance of the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets import Part
from data_pipeline.functions import Drawn, FunctionSpec
from data_pipeline.functions._portable import PI, normals, sine
from data_pipeline.rng import Stream

Floats = NDArray[np.float64]

NOISE = 0.3
#: Names of ``latent``: the family and its parameters.
LATENT = ("family", "p1", "p2", "p3", "p4")


@dataclass(frozen=True)
class Family:
    """One of the families.

    Attributes:
        ranges: of the parameters, each uniform.
        value: of parameters [4], x [n] and z [n], without noise.
        inputs: 1, or 2 if it depends on z.
    """

    name: str
    ranges: tuple[tuple[float, float], ...]
    value: Callable[[Floats, Floats, Floats], Floats]
    inputs: int = 1


#: A sin(w x + b); a x + b; a x² + b x + c; a x³ + b x² + c x + d; a x² + b z²;
#: sin(-a (x² + z²)) + b.
FAMILIES = (
    Family(
        "sine",
        ((0.1, 5.0), (0.8, 1.2), (0.0, 2.0 * PI)),
        lambda p, x, z: p[0] * sine(p[1] * x + p[2]),
    ),
    Family("line", ((-3.0, 3.0), (-3.0, 3.0)), lambda p, x, z: p[0] * x + p[1]),
    Family(
        "quadratic",
        ((-0.2, 0.2), (-2.0, 2.0), (-3.0, 3.0)),
        lambda p, x, z: (p[0] * x + p[1]) * x + p[2],
    ),
    Family(
        "cubic",
        ((-0.1, 0.1), (-0.2, 0.2), (-2.0, 2.0), (-3.0, 3.0)),
        lambda p, x, z: ((p[0] * x + p[1]) * x + p[2]) * x + p[3],
    ),
    Family(
        "surface",
        ((-1.0, 1.0), (-1.0, 1.0)),
        lambda p, x, z: p[0] * x * x + p[1] * z * z,
        inputs=2,
    ),
    Family(
        "ripple",
        ((-0.2, 0.2), (-3.0, 3.0)),
        lambda p, x, z: p[1] - sine(p[0] * (x * x + z * z)),
        inputs=2,
    ),
)


def mixture(
    inputs: int, summary: str, citation: str, floor: float
) -> tuple[FunctionSpec, partial[Drawn]]:
    """``SPEC`` and ``draw`` of the families of up to so many inputs.

    ``draw`` gives x [points, inputs], y [points, 1], latent [family, four parameters].
    """
    spec = FunctionSpec(
        name=f"mixture{inputs}d",
        summary=summary,
        inputs=inputs,
        outputs=1,
        latent=LATENT,
        version=1,
        citation=citation,
        floor=floor,
    )
    return spec, partial(_draw, inputs)


def _draw(inputs: int, stream: Stream, points: int, part: Part) -> Drawn:
    families = [family for family in FAMILIES if family.inputs <= inputs]
    number = stream.below(len(families))
    family = families[number]
    slots = len(LATENT) - 1
    numbers = stream.uniforms(slots + points * (inputs + 1))
    parameters = np.zeros(slots)
    for i, (low, high) in enumerate(family.ranges):
        parameters[i] = low + (high - low) * numbers[i]
    own = numbers[slots:].reshape(points, inputs + 1)
    x = 10.0 * own[:, :inputs] - 5.0
    if family.inputs < inputs:
        x[:, 1] = 1.0
    y = family.value(parameters, x[:, 0], x[:, -1]) + NOISE * normals(own[:, inputs])
    return x, y[:, None], np.concatenate([[float(number)], parameters])
