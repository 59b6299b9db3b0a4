"""Meta-SGD: MAML with a meta-learned step size for every single parameter.

Li, Zhou, Chen & Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017. The step
sizes give length and direction of the update, so one inner step is what is published; taking more
at test than in training may diverge. ``inner.lr`` is where they start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from metadist.algorithms import Parts, maml
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.keys import Key
from metadist.learner import Captions, LearnedQuantities
from metadist.tasks import Params

SUFFIX = ".step_size"


class Options(maml.Options):
    init: Literal["constant", "uniform"] = "constant"
    """step sizes start at `inner.lr`, or as draws from [`low`, `high`] (then `inner.lr` has no
    effect)"""
    low: Annotated[float, Field(ge=0)] = 0.005
    """least step size of a uniform start"""
    high: Annotated[float, Field(gt=0)] = 0.1
    """largest step size of a uniform start; above `low`"""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low = {self.low}, high = {self.high}")
        if self.init == "constant":
            self.refuse_idle("init 'uniform'", "low", "high")
        return self


@dataclass(frozen=True)
class MetaSGD(InnerOptimizer):
    """``<parameter>.step_size`` has the parameter's shape; it is free, negative numbers included.

    Attributes:
        low, high: fresh step sizes are uniform in [low, high]; equal: all the same.
    """

    low: float
    high: float

    def init(self, adapted: Params, key: Key) -> Params:
        return {f"{name}{SUFFIX}": self._fresh(key.fold(name), p) for name, p in adapted.items()}

    def _fresh(self, key: Key, p: Tensor) -> Tensor:
        if self.low == self.high:
            return torch.full(p.shape, self.low)
        return self.low + (self.high - self.low) * key.uniform(p.shape)

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        sizes = step.meta
        return {n: -(sizes[f"{n}{SUFFIX}"] * gradients[n]) for n in adapted}, {}

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """Mean, smallest and largest step size of each parameter."""
        sizes = {name.removesuffix(SUFFIX): a for name, a in meta.items()}
        return {
            "step_size_mean": {name: [float(a.mean())] for name, a in sizes.items()},
            "step_size_min": {name: [float(a.min())] for name, a in sizes.items()},
            "step_size_max": {name: [float(a.max())] for name, a in sizes.items()},
        }

    @property
    def captions(self) -> Captions:
        text = (
            "Bar: from the smallest to the largest step size within a parameter, dot: their mean; "
            "below 0 the inner loop climbs its loss."
        )
        return {"step_size": ("Learned step sizes", text)}


def build(parts: Parts[Options]) -> InnerLoop:
    options = parts.options
    uniform = options.init == "uniform"
    low, high = (options.low, options.high) if uniform else (parts.inner_lr, parts.inner_lr)
    return replace(maml.build(parts), optimizer=MetaSGD(low, high))
