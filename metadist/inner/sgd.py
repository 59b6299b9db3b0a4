"""Plain gradient descent: phi - alpha * gradient, with one step size for all parameters."""

from __future__ import annotations

from dataclasses import dataclass

from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.tasks import Params


@dataclass(frozen=True)
class SGD(InnerOptimizer):
    """The inner update of MAML (Finn et al., 2017, algorithm 1, line 6)."""

    lr: float

    def update(self, adapted: Params, gradients: Params, step: InnerStep) -> tuple[Params, Params]:
        return {name: p - self.lr * gradients[name] for name, p in adapted.items()}, {}
