"""A search space whose trials take a moment."""

from __future__ import annotations

from metadist.space import LogUniform, Space

#: A few steps on sinusoids; rates up to those that diverge.
SMALL_SPACE = Space(
    about="a few steps on sinusoids",
    base="sinusoid-10shot-maml",
    search={"inner.lr": LogUniform(1e-3, 1e9), "outer.lr": LogUniform(1e-5, 1e-1)},
    fixed={
        "outer.batch": 2,
        "engine.mode": "loop",
        "engine.chunk": 1,
        "eval.val_episodes": 3,
        "eval.steps": 0,
    },
    metric="val/mse",
    mode="min",
    steps=6,
    every=2,
)
