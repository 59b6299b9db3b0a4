"""Plain gradient descent: phi - alpha * gradient, with one step size for all parameters."""

from __future__ import annotations

from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.tasks import Params


class SGD(InnerOptimizer):
    """The inner update of MAML (Finn et al., 2017, algorithm 1, line 6); alpha is ``inner.lr``."""

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        return {name: -step.ctx.inner_lr * gradients[name] for name in adapted}, {}
