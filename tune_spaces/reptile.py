"""Reptile: step size and number of its inner optimiser, and how far the outer step goes."""

from metadist.space import Choice, Integers, LogUniform, When
from tune_spaces._strokes import strokes

SPACE = strokes(
    "Reptile: inner optimiser, its rate and steps, outer rate",
    {
        "algorithm.inner_optimizer": Choice("adam", "sgd"),
        "inner.lr": LogUniform(1e-4, 1.0),
        "algorithm.beta1": When("algorithm.inner_optimizer", ("adam",), Choice(0.0, 0.9)),
        "inner.steps": Integers(3, 10),
        # A pseudo-gradient is a difference of parameters: 1 goes all the way.
        "outer.lr": LogUniform(1e-2, 2.0),
    },
    {"algorithm.name": "reptile", "inner.loss": "mean", "outer.optimizer": "sgd", "outer.batch": 5},
)
