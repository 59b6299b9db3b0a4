"""y = c_0 + c_1 x + ... + c_n x^n, c_i in [-1, 1] / 2^i, x in [-2, 2].

The polynomials of MT-nets (Lee & Choi, "Gradient-Based Meta-Learning with Learned Layerwise
Metric and Subspace", ICML 2018); the division by 2^i is that of their released code,
the paper does not print it. The coefficients are independent with mean 0, so that the floor
is E[y²] = the sum over i of E[c_i²] E[x^(2i)] = (1/3) (1/4^i) (4^i / (2i + 1)) = 1 / (6i + 3).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from data_pipeline.datasets import Part
from data_pipeline.functions import Drawn, FunctionSpec
from data_pipeline.rng import Stream


def family(order: int) -> tuple[FunctionSpec, partial[Drawn]]:
    """``SPEC`` and ``draw`` of the polynomials of an order.

    ``draw`` gives x [points, 1], y [points, 1], latent [c_0, ... c_order].
    """
    terms = ("c0", "c1 x", "c2 x²")[: order + 1]
    spec = FunctionSpec(
        name=f"polynomial{order}",
        summary=f"y = {' + '.join(terms)}, c_i in [-1, 1] / 2^i, x in [-2, 2]",
        inputs=1,
        outputs=1,
        latent=tuple(f"c{i}" for i in range(order + 1)),
        version=1,
        citation="Lee & Choi, ICML 2018",
        floor=sum(1 / (6 * i + 3) for i in range(order + 1)),
    )
    return spec, partial(_draw, order)


def _draw(order: int, stream: Stream, points: int, part: Part) -> Drawn:
    numbers = stream.uniforms(order + 1 + points)
    coefficients = 2.0 * numbers[: order + 1] - 1.0
    for i in range(order + 1):
        coefficients[i] /= 2**i
    x = 4.0 * numbers[order + 1 :, None] - 2.0
    y = np.zeros_like(x)
    for coefficient in coefficients[::-1]:
        y = y * x + coefficient
    return x, y, coefficients
