"""Training from scratch on the support set of each task: optimiser, rate and steps."""

from metadist.space import Choice, Integers, LogUniform
from tune_spaces._strokes import strokes

SPACE = strokes(
    "From scratch: optimiser, rate and steps",
    {
        "algorithm.optimizer": Choice("sgd", "adam"),
        "inner.lr": LogUniform(1e-4, 1.0),
        "inner.steps": Integers(5, 50, log=True),
    },
    {"algorithm.name": "scratch", "inner.loss": "mean"},
    # Nothing is meta-learned: a trial is one validation.
    steps=1,
    every=1,
    scheduler=None,
)
