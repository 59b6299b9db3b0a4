"""A step size for every single parameter, meta-learned: phi - a * gradient, elementwise.

Li, Zhou, Chen & Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.tasks import Params

SUFFIX = ".step_size"


@dataclass(frozen=True)
class PerParameter(InnerOptimizer):
    """``<parameter>.step_size`` has the parameter's shape; it is free, negative numbers included.

    Attributes:
        low, high: fresh step sizes are uniform in [low, high]; equal: all the same.
    """

    low: float
    high: float

    def init(self, adapted: Params, key: Key) -> Params:
        """Fresh step sizes."""
        return {f"{name}{SUFFIX}": self._fresh(key.fold(name), p) for name, p in adapted.items()}

    def _fresh(self, key: Key, p: torch.Tensor) -> torch.Tensor:
        if self.low == self.high:
            return torch.full(p.shape, self.low)
        return self.low + (self.high - self.low) * key.uniform(p.shape)

    def update(self, adapted: Params, gradients: Params, step: InnerStep) -> tuple[Params, Params]:
        """Parameters after one step."""
        sizes = step.meta
        return {n: p - sizes[f"{n}{SUFFIX}"] * gradients[n] for n, p in adapted.items()}, {}

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """Mean, smallest and largest step size of each parameter."""
        sizes = {name.removesuffix(SUFFIX): a for name, a in meta.items()}
        return {
            "step_size_mean": {name: [float(a.mean())] for name, a in sizes.items()},
            "step_size_min": {name: [float(a.min())] for name, a in sizes.items()},
            "step_size_max": {name: [float(a.max())] for name, a in sizes.items()},
        }
