"""Pre-training and fine-tuning: rate of pre-training, and rate and number of the steps after it."""

from metadist.space import Choice, Integers, LogUniform
from tune_spaces._strokes import OUTER, strokes

SPACE = strokes(
    "Pre-training and fine-tuning: rates, steps, the head's start",
    {
        "outer.lr": OUTER,
        "inner.lr": LogUniform(1e-3, 1.0),
        "inner.steps": Integers(5, 50, log=True),
        "algorithm.head_init": Choice("zeros", "drawn"),
    },
    {"algorithm.name": "finetune", "inner.loss": "mean"},
)
