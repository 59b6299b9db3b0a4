"""A meta-learned step size for every parameter tensor and every inner step.

"Per-layer per-step learning rates" of Antoniou, Edwards & Storkey, "How to train your MAML", ICLR
2019, section 4: phi - a[t] * gradient in step t. The paper speaks of layers; its released code has
one for each tensor, as here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.tasks import Params

SUFFIX = ".step_sizes"


@dataclass(frozen=True)
class PerStep(InnerOptimizer):
    """``<parameter>.step_sizes`` [T]; steps beyond T take the last one.

    The released code has one more, which no step ever uses.

    Attributes:
        lr: where all of them start.
        steps: T, adaptation steps in training; at least one step size is kept.
    """

    lr: float
    steps: int

    def init(self, adapted: Params, key: Key) -> Params:
        """Fresh step sizes, all the same."""
        return {f"{name}{SUFFIX}": torch.full((max(self.steps, 1),), self.lr) for name in adapted}

    def update(self, adapted: Params, gradients: Params, step: InnerStep) -> tuple[Params, Params]:
        """Parameters after one step."""
        row = min(step.index, max(self.steps, 1) - 1)
        sizes = {name: step.meta[f"{name}{SUFFIX}"][row] for name in adapted}
        return {name: p - sizes[name] * gradients[name] for name, p in adapted.items()}, {}

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """The step sizes of each parameter, step by step."""
        return {"step_size": {n.removesuffix(SUFFIX): a.double().tolist() for n, a in meta.items()}}
