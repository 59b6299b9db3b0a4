"""Four blocks of 3x3 convolution, normalisation and ReLU, then a linear layer.

Vinyals et al., "Matching Networks for One Shot Learning", 2016, in the two forms of Finn et al.,
"Model-Agnostic Meta-Learning", 2017: Omniglot (``downsample = "stride"``, 64 filters, spatial
mean) and miniImageNet (``downsample = "pool"``, 32 filters, flatten). The convolutions have no
bias: normalisation by statistics of the batch removes it exactly (with averages of them, or
without normalisation, it is missed: the shift, which the inner loop leaves alone, is all there is).
Padding is 1 on every side (TensorFlow's "same" pads stride-2 convolutions on one side only).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.backbones import Layer, LayerHook, Output
from metadist.backbones._fused import Fused
from metadist.backbones._norm import EPSILON, Norm, Statistics, normalise
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.kernels.library import Library
from metadist.kernels.network import Network
from metadist.keys import Key
from metadist.tasks import Params, TaskShape

BLOCKS = 4


class Options(OptionsBase):
    filters: Annotated[int, Field(ge=1)] = 64
    """channels of each block"""
    downsample: Literal["stride", "pool"] = "stride"
    """halve by stride 2 (Omniglot) or by 2×2 max-pooling (miniImageNet; 16×16 pixels or more)"""
    halvings: Literal[1, 2, 3, 4] = 4
    """how many of the blocks halve, the first ones: relation networks compare larger maps (with
    fewer than 4 torch computes, whatever `engine.kernels` says)"""
    head: Literal["mean", "flatten"] = "mean"
    """what enters the linear layer: the mean over positions, or all of them"""
    affine: Literal["none", "shift", "scale_shift"] = "shift"
    """learned parameters of normalisation; MAML's code has the shift only"""
    head_init: Literal["normal", "xavier", "zeros"] = "normal"
    """initialisation of the linear layer's weights (Omniglot `normal`, miniImageNet `xavier`;
    `zeros`: the first prediction is uniform)"""
    head_outputs: Annotated[int, Field(ge=0)] = 0
    """outputs of the linear layer; 0: one for each class of a training task; otherwise a task has
    the first of them, so that one of fewer classes than in training can be learned (`eval.ways`;
    torch computes it then)"""


def _xavier(key: Key, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Tensor:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio, 2010)."""
    return (2 * key.uniform(shape) - 1) * math.sqrt(6.0 / (fan_in + fan_out))


@dataclass(frozen=True)
class Conv4(Fused):
    """The network for inputs [n, C, H, W] and ``outputs`` classes or values."""

    options: Options
    channels: int
    features: int
    outputs: int
    kernels: Network | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Four convolutions and the head."""
        filters = self.options.filters
        convolutions = (Layer(f"conv{i}", filters, bias=False) for i in range(1, BLOCKS + 1))
        return (*convolutions, Layer("head", self.head_outputs, bias=True))

    @property
    def head_outputs(self) -> int:
        """Of the linear layer; a task has the first of them."""
        return self.options.head_outputs or self.outputs

    @property
    def norm_layers(self) -> dict[str, int]:
        return {f"norm{i}": self.options.filters for i in range(1, BLOCKS + 1)}

    @cached_property
    def norm_parameters(self) -> frozenset[str]:
        """Names of scale and shift of every normalisation layer."""
        return frozenset(f"{layer}.{p}" for layer in self.norm_layers for p in ("scale", "shift"))

    def with_kernels(self, library: Library) -> Conv4:
        if self.options.halvings < BLOCKS or self.head_outputs > self.outputs:
            return self
        of_layer = ("conv{}.weight", "norm{}.scale", "norm{}.shift")
        names = (name.format(i) for i in range(1, BLOCKS + 1) for name in of_layer)
        pool = self.options.downsample == "pool"
        kernels = Network(
            library,
            "blocks",
            names=(*names, *self.layers[-1].parameters),
            norms=tuple(self.norm_layers),
            channels=self.channels,
            depth=BLOCKS,
            units=self.options.filters,
            outputs=self.outputs,
            stride=1 if pool else 2,
            pool=pool,
            flatten=self.options.head == "flatten",
            epsilon=EPSILON,
        )
        return replace(self, kernels=kernels)

    def init(self, key: Key) -> Params:
        """Xavier-uniform convolutions, zero shifts, unit scales, head as ``head_init`` says."""
        filters, affine = self.options.filters, self.options.affine
        params: Params = {}
        for block in range(1, BLOCKS + 1):
            inputs = self.channels if block == 1 else filters
            name = f"conv{block}.weight"
            shape = (filters, inputs, 3, 3)
            params[name] = _xavier(key.fold(name), shape, 9 * inputs, 9 * filters)
            if affine == "scale_shift":
                params[f"norm{block}.scale"] = torch.ones(filters)
            if affine != "none":
                params[f"norm{block}.shift"] = torch.zeros(filters)
        shape2 = (self.head_outputs, self.features)
        head = key.fold("head.weight")
        params["head.weight"] = {
            "normal": lambda: head.normal(shape2),
            "xavier": lambda: _xavier(head, shape2, self.features, shape2[0]),
            "zeros": lambda: torch.zeros(shape2),
        }[self.options.head_init]()
        params["head.bias"] = torch.zeros(self.head_outputs)
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
        """Outputs [n, outputs] for x [n, C, H, W]."""
        statistics: Statistics = {}
        activations: dict[str, Tensor] = {}
        pool = self.options.downsample == "pool"
        for block in range(1, BLOCKS + 1):
            halved = block <= self.options.halvings
            stride = 2 if halved and not pool else 1
            x = F.conv2d(x, params[f"conv{block}.weight"], stride=stride, padding=1)
            if layer_hook is not None:
                x = layer_hook(f"conv{block}", x)
            scale, shift = params.get(f"norm{block}.scale"), params.get(f"norm{block}.shift")
            x = F.relu(normalise(x, f"norm{block}", scale, shift, norm, statistics))
            if halved and pool:
                x = F.max_pool2d(x, 2)
            activations[f"conv{block}"] = x
        features = x.mean((2, 3)) if self.options.head == "mean" else x.flatten(1)
        if not head:
            return Output(features, features, statistics, activations)
        outputs = F.linear(features, params["head.weight"], params["head.bias"])
        if layer_hook is not None:
            outputs = layer_hook("head", outputs)
        if self.head_outputs > self.outputs:
            outputs = outputs[:, : self.outputs]
        activations["head"] = outputs
        return Output(outputs, features, statistics, activations)


def build(options: Options, shape: TaskShape) -> Conv4:
    """The network for tasks of this shape.

    Raises:
        RecipeError: the inputs are not images, or too small for four halvings, or the head has
            fewer outputs than are needed.
    """
    if len(shape.inputs) != 3:
        raise RecipeError(f"conv4 needs images [C, H, W], the data has inputs {shape.inputs}")
    channels, height, width = shape.inputs
    for _ in range(options.halvings):
        # Stride 2 with padding 1 rounds up, pooling without padding rounds down.
        odd = 0 if options.downsample == "pool" else 1
        height, width = (height + odd) // 2, (width + odd) // 2
    if min(height, width) < 1:
        least = 2**options.halvings
        raise RecipeError(
            f"conv4 with pooling needs images of {least}x{least} or more, got {shape.inputs}"
        )
    if 0 < options.head_outputs < shape.outputs:
        raise RecipeError(
            f"model.head_outputs: 0, or at least {shape.outputs}, as many as a task has classes or "
            f"values, got {options.head_outputs}"
        )
    area = 1 if options.head == "mean" else height * width
    return Conv4(options, channels, options.filters * area, shape.outputs)
