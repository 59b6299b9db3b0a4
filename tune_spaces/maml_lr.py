"""Inner and outer learning rate of MAML with one adaptation step, on the embedded characters."""

from metadist.space import Asha, LogUniform, Space

SPACE = Space(
    about="MAML, one adaptation step: inner and outer learning rate",
    base="strokes-5w1s-maml",
    search={"inner.lr": LogUniform(1e-3, 10.0), "outer.lr": LogUniform(1e-5, 1e-1)},
    # Smaller batches than the base's: more outer steps, and so rungs, in the same time.
    fixed={"outer.batch": 16, "eval.steps": 0, "eval.extra_queries": 0},
    metric="val/accuracy",
    mode="max",
    steps=240,
    every=30,
    trials=16,
    searcher="tpe",
    scheduler=Asha(grace=30, reduction=3),
)
