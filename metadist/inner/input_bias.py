"""A network that is fed a learned constant vector beside each example.

The bias transformation of Finn & Levine, "Meta-Learning and Universality: Deep Representations and
Gradient Descent Can Approximate Any Learning Algorithm", ICLR 2018, and Finn, Yu, Zhang, Abbeel &
Levine, "One-Shot Visual Imitation Learning via Meta-Learning", CoRL 2017: with weights W1 on the
vector, its gradient is W1' delta (delta: the loss's gradient at the first layer's outputs), so a
step on it carries what the labels say to that layer without a change of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metadist.backbones import Norm, Statistics, Trace
from metadist.inner.wrapped import Wrapped
from metadist.keys import Key
from metadist.tasks import Params

NAME = "input_bias"


@dataclass(frozen=True)
class InputBias(Wrapped):
    """A backbone for inputs of D numbers or C channels, around one for D + size or C + size.

    ``input_bias`` [size] starts at zero. It stands behind each example's own numbers, or as
    constant channels behind an image's own.

    Attributes:
        network: for the wider inputs.
        size: numbers of the vector.
    """

    size: int

    def init(self, key: Key) -> Params:
        """The vector, then the network's parameters."""
        return {NAME: torch.zeros(self.size), **self.network.init(key)}

    def forward(
        self, params: Params, x: Tensor, norm: Norm, trace: Trace | None = None
    ) -> tuple[Tensor, Statistics]:
        """Outputs [n, outputs] for examples [n, D] or [n, C, H, W]."""
        vector = params[NAME].reshape(1, self.size, *[1] * (x.dim() - 2))
        constant = vector.expand(len(x), self.size, *x.shape[2:])
        return self.network.forward(params, torch.cat([x, constant], 1), norm, trace)
