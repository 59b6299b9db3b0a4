"""TAML: learning rates, the measure of inequality and its weight."""

from metadist.space import Choice, LogUniform
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "TAML: learning rates, inequality measure and weight",
    {
        **RATES,
        "algorithm.variant": Choice("theil", "gini", "atkinson", "variance_of_logs", "entropy"),
        "algorithm.weight": LogUniform(1e-2, 10.0),
    },
    {"algorithm.name": "taml"},
)
