"""Plain gradient descent: phi - alpha * gradient, with one step size for all parameters."""

from __future__ import annotations

from dataclasses import dataclass

from metadist.tasks import Params


@dataclass(frozen=True)
class SGD:
    """The inner update of MAML (Finn et al., 2017, equation 1)."""

    lr: float

    def update(self, adapted: Params, gradients: Params, step: int) -> Params:
        """Parameters after one step; ``step`` counts from 0."""
        return {name: p - self.lr * gradients[name] for name, p in adapted.items()}
