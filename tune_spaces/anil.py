"""ANIL: learning rates and number of adaptation steps of the head."""

from metadist.space import Integers
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "ANIL: learning rates, adaptation steps",
    {**RATES, "inner.steps": Integers(1, 5)},
    {"algorithm.name": "anil"},
)
