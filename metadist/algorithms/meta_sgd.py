"""Meta-SGD: MAML with a meta-learned step size for every single parameter.

Li, Zhou, Chen & Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017. The step
sizes give length and direction of the update, so one inner step is what is published; taking more
at test than in training may diverge. ``inner.lr`` is where they start.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from metadist.algorithms import Parts, maml
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.per_parameter import PerParameter


class Options(maml.Options):
    """``init``: all step sizes start at ``inner.lr``, or uniform in [``low``, ``high``] (then
    ``inner.lr`` has no effect).
    """

    init: Literal["constant", "uniform"] = "constant"
    low: Annotated[float, Field(ge=0)] = 0.005
    high: Annotated[float, Field(gt=0)] = 0.1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low = {self.low}, high = {self.high}")
        if self.init == "constant":
            self.refuse_idle("init 'uniform'", "low", "high")
        return self


def build(parts: Parts) -> InnerLoop:
    """The learner."""
    options = parts.options
    assert isinstance(options, Options)
    uniform = options.init == "uniform"
    low, high = (options.low, options.high) if uniform else (parts.inner_lr, parts.inner_lr)
    return replace(maml.build(parts), optimizer=PerParameter(low, high))
