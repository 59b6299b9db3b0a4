"""A multi-layer perceptron; with its defaults the 1-40-40-1 net of MAML's sinusoid.

Finn, Abbeel & Levine, 2017, section 5.1. ``init = "torch"`` draws weights and biases uniformly in
+-1/sqrt(fan_in) (PyTorch's default for linear layers); ``init = "truncated_normal"`` is the
published one (standard deviation 0.01, zero biases), which spends about 1,000 outer steps on a
plateau before it learns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.backbones import Layer, LayerHook, Norm, Output
from metadist.backbones._fused import Fused
from metadist.discovery import Options as OptionsBase
from metadist.kernels.library import Library
from metadist.kernels.network import Network
from metadist.keys import Key
from metadist.tasks import Params, TaskShape

#: ``model.norm`` has nothing to be about.
NORMALISES = False


class Options(OptionsBase):
    hidden: Annotated[int, Field(ge=1)] = 40
    """units of each hidden layer"""
    layers: Annotated[int, Field(ge=1)] = 2
    """hidden layers"""
    activation: Literal["relu", "tanh"] = "relu"
    """between layers"""
    init: Literal["torch", "truncated_normal"] = "torch"
    """uniform in ±1/√fan_in, or MAML's published normal of 0.01, which learns nothing for about
    1,000 steps"""


@dataclass(frozen=True)
class MLP(Fused):
    """The network for inputs [n, ...] (flattened) and ``outputs`` classes or values."""

    options: Options
    sizes: tuple[int, ...]
    kernels: Network | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The linear maps; the last one is the head."""
        return tuple(Layer(f"linear{i}", n, bias=True) for i, n in enumerate(self.sizes[1:], 1))

    def with_kernels(self, library: Library) -> MLP:
        *hidden, head = self.layers
        # A linear layer has no scale.
        names = (name for x in hidden for name in (f"{x.name}.weight", "", f"{x.name}.bias"))
        kernels = Network(
            library,
            "layers",
            names=(*names, *head.parameters),
            norms=(),
            channels=self.sizes[0],
            depth=len(hidden),
            units=self.options.hidden,
            outputs=head.outputs,
            activation=self.options.activation,
        )
        return replace(self, kernels=kernels)

    def init(self, key: Key) -> Params:
        """Weights [out, in] and biases [out] of each layer."""
        params: Params = {}
        for layer, (inputs, outputs) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), 1):
            weight, bias = key.fold(f"linear{layer}.weight"), key.fold(f"linear{layer}.bias")
            if self.options.init == "torch":
                bound = 1.0 / math.sqrt(inputs)
                params[f"linear{layer}.weight"] = (
                    2 * weight.uniform((outputs, inputs)) - 1
                ) * bound
                params[f"linear{layer}.bias"] = (2 * bias.uniform((outputs,)) - 1) * bound
            else:
                params[f"linear{layer}.weight"] = weight.truncated_normal((outputs, inputs)) * 0.01
                params[f"linear{layer}.bias"] = torch.zeros(outputs)
        return params

    def forward(
        self,
        params: Params,
        x: Tensor,
        norm: Norm,
        *,
        head: bool = True,
        layer_hook: LayerHook | None = None,
    ) -> Output:
        """Outputs [n, outputs] for x [n, ...]; ``norm`` has nothing to act on."""
        x = features = x.flatten(1)
        activations: dict[str, Tensor] = {}
        last = len(self.sizes) - 1
        activation = F.relu if self.options.activation == "relu" else torch.tanh
        for layer in range(1, last + head):
            features = x
            x = F.linear(x, params[f"linear{layer}.weight"], params[f"linear{layer}.bias"])
            if layer_hook is not None:
                x = layer_hook(f"linear{layer}", x)
            if layer < last:
                x = activation(x)
            activations[f"linear{layer}"] = x
        return Output(x, features if head else x, {}, activations)


def build(options: Options, shape: TaskShape) -> MLP:
    """The network for tasks of this shape."""
    sizes = (math.prod(shape.inputs), *[options.hidden] * options.layers, shape.outputs)
    return MLP(options, sizes)
