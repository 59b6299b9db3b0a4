"""Polynomials of order 2; see :mod:`data_pipeline.functions._polynomial`."""

from __future__ import annotations

from data_pipeline.datasets import Part
from data_pipeline.functions import Drawn
from data_pipeline.functions._polynomial import draw_polynomial, specification
from data_pipeline.rng import Stream

SPEC = specification(2)


def draw(stream: Stream, points: int, part: Part) -> Drawn:
    """One polynomial: x [points, 1], y [points, 1], latent [c0, c1, c2]."""
    return draw_polynomial(stream, points, 2)
