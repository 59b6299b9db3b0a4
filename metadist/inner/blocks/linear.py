"""A linear map with named parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from metadist.keys import Key
from metadist.tasks import Params


@dataclass(frozen=True)
class Linear:
    """W x + b.

    Attributes:
        name: its parameters are ``<name>.weight`` [outputs, inputs] and ``<name>.bias`` [outputs].
        inputs, outputs: numbers of a vector before and after.
        bias: whether there is b.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool = True

    def init(self, key: Key) -> Params:
        """Uniform in +-1/sqrt(inputs), as torch's linear layers and convolutions."""
        bound = 1.0 / math.sqrt(self.inputs)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.outputs, self.inputs)}
        if self.bias:
            shapes["bias"] = (self.outputs,)
        return {
            f"{self.name}.{part}": (2 * key.fold(self.name, part).uniform(shape) - 1) * bound
            for part, shape in shapes.items()
        }

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """[..., outputs] of x [..., inputs]."""
        bias = params[f"{self.name}.bias"] if self.bias else None
        return F.linear(x, params[f"{self.name}.weight"], bias)
