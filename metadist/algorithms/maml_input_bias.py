"""MAML in a network that is fed a learned constant vector, which the inner loop adapts too.

Finn & Levine, "Meta-Learning and Universality: Deep Representations and Gradient Descent Can
Approximate Any Learning Algorithm", ICLR 2018, and the bias transformation of Finn, Yu, Zhang,
Abbeel & Levine, "One-Shot Visual Imitation Learning via Meta-Learning", CoRL 2017. One gradient
step in a deep enough ReLU network can approximate any function of support set and query. With
weights W1 on the vector, its gradient is W1' delta (delta: the loss's gradient at the first layer's
outputs), so a step on it carries what the labels say to that layer without a change of its weights.

For images it is ``size`` constant channels, which batch normalisation takes away again except at
the borders: it is of use in networks without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts, maml
from metadist.backbones import Norm, Output
from metadist.inner.backbone_wrapper import BackboneWrapper
from metadist.inner.inner_loop import InnerLoop
from metadist.keys import Key
from metadist.tasks import Params

NAME = "input_bias"


class Options(maml.Options):
    size: Annotated[int, Field(ge=1)] = 10
    """numbers of the constant input vector"""


@dataclass(frozen=True)
class InputBias(BackboneWrapper):
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

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        """Outputs [n, outputs] for examples [n, D] or [n, C, H, W]."""
        vector = params[NAME].reshape(1, self.size, *[1] * (x.dim() - 2))
        constant = vector.expand(len(x), self.size, *x.shape[2:])
        return super().forward(params, torch.cat([x, constant], 1), norm, **how)


def build(parts: Parts[Options]) -> InnerLoop:
    options, shape = parts.options, parts.shape
    wider = replace(shape, inputs=(shape.inputs[0] + options.size, *shape.inputs[1:]))
    return replace(maml.build(parts), backbone=InputBias(parts.network(wider), options.size))
