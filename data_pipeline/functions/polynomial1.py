"""Polynomials of order 1; see :mod:`data_pipeline.functions._polynomial`."""

from data_pipeline.functions._polynomial import family

SPEC, draw = family(1)
