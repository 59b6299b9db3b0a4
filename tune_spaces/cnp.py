"""Conditional neural processes on sinusoids: size of the representation, units, rate."""

from metadist.space import Asha, Choice, Integers, LogUniform, Space

SPACE = Space(
    about="Conditional neural processes on sinusoids, 10-shot: representation, units, rate",
    base="sinusoid-10shot-cnp",
    search={
        "outer.lr": LogUniform(1e-5, 1e-2),
        "algorithm.representation": Integers(8, 256, log=True),
        "model.hidden": Integers(32, 256, log=True),
        "algorithm.predict_support": Choice(False, True),
    },
    fixed={"eval.extra_queries": 0},
    metric="val/nll",
    mode="min",
    steps=1000,
    every=125,
    trials=24,
    searcher="tpe",
    scheduler=Asha(),
)
