"""Sines, lines, parabolas and cubics with noise: ARML's families of one variable.

See :mod:`data_pipeline.functions._mixture` for the ranges and the layout of ``latent``. E[y²] of
the four families is 2551/600, 28, 142/9 and 5851/252, without noise; the floor is their mean plus
0.09.
"""

from __future__ import annotations

from data_pipeline.datasets import Part
from data_pipeline.functions import Drawn, FunctionSpec
from data_pipeline.functions._mixture import FAMILIES, LATENT, draw_mixture
from data_pipeline.rng import Stream

SPEC = FunctionSpec(
    name="mixture1d",
    summary="a sine, line, parabola or cubic + noise 0.3, x in [-5, 5]",
    inputs=1,
    outputs=1,
    latent=LATENT,
    version=1,
    citation="after Yao et al., ARML, ICLR 2020",
    floor=17.901924603174603,
)
_MINE = tuple(family for family in FAMILIES if family.inputs == 1)


def draw(stream: Stream, points: int, part: Part) -> Drawn:
    """One function: x [points, 1], y [points, 1], latent [family, four parameters]."""
    return draw_mixture(stream, points, _MINE, inputs=1)
