"""Gradient descent with a falling step size, and with other step sizes for some parameters.

Parameter p with step size a takes p - a / (1 + d t) * gradient in step t = 0, 1, ...: the decay of
Torch 7's ``optim.sgd``, with which the fine-tuning baselines of few-shot learning were run (Ravi &
Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.tasks import Params


@dataclass(frozen=True)
class DecayedSGD(InnerOptimizer):
    """Without decay and other step sizes, plain gradient descent.

    Attributes:
        decay: d.
        others: step sizes of parameters whose step size is not ``lr``, by name.
    """

    lr: float
    decay: float = 0.0
    others: Mapping[str, float] = field(default_factory=dict)

    def update(self, adapted: Params, gradients: Params, step: InnerStep) -> tuple[Params, Params]:
        """Parameters after one step."""
        slower = 1.0 + self.decay * step.index
        return {
            name: p - self.others.get(name, self.lr) / slower * gradients[name]
            for name, p in adapted.items()
        }, {}
