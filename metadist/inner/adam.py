"""Adam as an inner update: Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

Algorithm 1 with bias correction. Its square root has no derivative where a gradient has always been
zero, so a meta-gradient must not go through its steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metadist.context import Context
from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.tasks import Params


@dataclass(frozen=True)
class Adam(InnerOptimizer):
    """The moments start at zero for every task; the step size is ``inner.lr``.

    Attributes:
        beta1, beta2: decay of the moments' moving averages.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def start(self, meta: Params, adapted: Params, ctx: Context) -> Params:
        """First and second moment of each parameter's gradient."""
        return {
            f"{moment}/{name}": torch.zeros_like(p)
            for moment in ("first", "second")
            for name, p in adapted.items()
        }

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        first, second = (1.0 - beta ** (step.index + 1) for beta in (self.beta1, self.beta2))
        size = step.ctx.inner_lr / first
        updates: Params = {}
        after: Params = {}
        for name in adapted:
            g = gradients[name]
            m = self.beta1 * state[f"first/{name}"] + (1.0 - self.beta1) * g
            v = self.beta2 * state[f"second/{name}"] + (1.0 - self.beta2) * g * g
            updates[name] = -size * m / ((v / second).sqrt() + self.epsilon)
            after[f"first/{name}"], after[f"second/{name}"] = m, v
        return updates, after
