"""Meta-Curvature: learning rates, and the structure of the learned matrices."""

from metadist.space import Choice
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "Meta-Curvature: learning rates, MC1 or MC2",
    {**RATES, "algorithm.variant": Choice("mc1", "mc2")},
    {"algorithm.name": "meta_curvature"},
)
