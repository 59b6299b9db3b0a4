"""Inner and outer learning rate of MAML on sinusoids: a search of seconds per trial."""

from metadist.space import Asha, LogUniform, Space

SPACE = Space(
    about="MAML on sinusoids, 10-shot: inner and outer learning rate",
    base="sinusoid-10shot-maml",
    search={"inner.lr": LogUniform(3e-4, 3.0), "outer.lr": LogUniform(3e-5, 3e-1)},
    fixed={"eval.steps": 0, "eval.extra_queries": 0},
    metric="val/mse",
    mode="min",
    steps=2000,
    every=250,
    trials=24,
    searcher="tpe",
    scheduler=Asha(),
)
