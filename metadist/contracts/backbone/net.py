"""A network on tiny inputs, in float64, away from any special point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist import backbones
from metadist.backbones import Backbone, Norm, Output
from metadist.contracts.settings import SEED
from metadist.overrides import Scalar
from metadist.tasks import Examples, Params, TaskShape

#: Shapes of inputs that are tried; one that a network takes at least.
INPUTS = ((1, 16, 16), (3, 20, 20), (3, 32, 32), (2,), (7,))
#: The first so many of a kind that it takes are looked at; of one that has many parameters one is
#: enough, and one direction to hold its derivatives by.
ENOUGH, MANY = 2, 1_000_000
EXAMPLES, OUTPUTS = 6, 3


@dataclass(frozen=True)
class Net:
    """A network with parameters away from any special point, float64, and examples."""

    network: Backbone
    params: Params
    examples: Examples
    shape: TaskShape

    @property
    def x(self) -> Tensor:
        """Inputs [n, ...]."""
        return self.examples.x

    @property
    def enough(self) -> int:
        """Inputs of a kind, and directions, that are enough for a network of this size."""
        return 1 if sum(p.numel() for p in self.params.values()) > MANY else ENOUGH

    @property
    def batch(self) -> Norm:
        """By statistics of the batch."""
        return Norm("batch" if self.network.norm_layers else "off", record=True)

    def passed(self, params: Params | None = None, norm: Norm | None = None, **how: Any) -> Output:
        """A pass over the examples."""
        return self.network.forward(
            self.params if params is None else params, self.x, norm or self.batch, **how
        )

    def loss(self, params: Params) -> Tensor:
        """Cross-entropy of a pass, or half its mean square."""
        value = self.passed(params).value
        if self.shape.ways:
            return F.cross_entropy(value, self.examples.y)
        return F.mse_loss(value, self.examples.y)


def make(name: str, options: Mapping[str, Scalar], inputs: tuple[int, ...]) -> Net:
    """A network for such inputs.

    Raises:
        RecipeError: it does not take them.
    """
    images = len(inputs) == 3
    shape = TaskShape(inputs, OUTPUTS, OUTPUTS if images else 0)
    network = backbones.build(name, dict(options), shape)
    params = {
        n: p.double() + 0.02 * SEED.fold(n).normal(p.shape, torch.float64)
        for n, p in network.init(SEED).items()
    }
    x = SEED.fold("x").normal((EXAMPLES, *inputs), torch.float64)
    values = SEED.fold("y").normal((EXAMPLES, OUTPUTS), torch.float64)
    y = torch.arange(EXAMPLES) % OUTPUTS if images else values
    return Net(network, params, Examples(x, y), shape)
