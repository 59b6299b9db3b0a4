"""Learner, learning rates, adaptation steps: where to look when nothing is known of a data set."""

from metadist.space import Choice, Integers, When
from tune_spaces._strokes import RATES, strokes

SPACE = strokes(
    "Any data set: learner, learning rates, adaptation steps, variant of curvature",
    {
        "algorithm.name": Choice("maml", "fomaml", "anil", "meta_sgd", "meta_curvature"),
        **RATES,
        "inner.steps": Integers(1, 3),
        "algorithm.variant": When("algorithm.name", ("meta_curvature",), Choice("mc1", "mc2")),
    },
    trials=48,
)
