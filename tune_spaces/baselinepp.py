"""Baseline++: rates of joint training and of the classifier in a new task, its steps, the scale."""

from metadist.space import Integers, LogUniform
from tune_spaces._strokes import OUTER, strokes

SPACE = strokes(
    "Baseline++: rates, steps in a new task, scale of the cosines",
    {
        "outer.lr": OUTER,
        "inner.lr": LogUniform(1e-3, 1.0),
        "inner.steps": Integers(10, 200, log=True),
        "algorithm.scale": LogUniform(1.0, 30.0),
    },
    {"algorithm.name": "baselinepp", "inner.loss": "mean"},
)
