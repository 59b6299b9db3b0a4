"""A small residual network for images: a convolution, blocks with shortcuts, the mean over space.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with one width and without
strides but the first. A block is x + conv(relu(norm(conv(relu(norm(x)))))), in the order of their
"Identity Mappings in Deep Residual Networks", ECCV 2016.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.backbones import Backbone, Layer, LayerHook, Norm, Output, Statistics, normalise
from metadist.discovery import Options as Base
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import Params, TaskShape

PART = "backbone"


class Options(Base):
    """``width``: channels; ``blocks`` with two convolutions each."""

    width: Annotated[int, Field(ge=1)] = 16
    blocks: Annotated[int, Field(ge=1)] = 2


@dataclass(frozen=True)
class Residual(Backbone):
    """The network for images [n, C, H, W]."""

    options: Options
    channels: int
    outputs: int

    @property
    def _convolutions(self) -> list[str]:
        return [f"block{b}.conv{c}" for b in range(self.options.blocks) for c in (1, 2)]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Convolutions in the order of the pass, then the head."""
        names = ["stem", *self._convolutions]
        convolutions = (Layer(name, self.options.width, bias=False) for name in names)
        return (*convolutions, Layer("head", self.outputs, bias=True))

    @property
    def norm_layers(self) -> dict[str, int]:
        """One before each convolution of a block."""
        return {name.replace("conv", "norm"): self.options.width for name in self._convolutions}

    @property
    def norm_parameters(self) -> frozenset[str]:
        """Scale and shift of each."""
        return frozenset(f"{layer}.{p}" for layer in self.norm_layers for p in ("scale", "shift"))

    def init(self, key: Key) -> Params:
        """Normal weights of variance 2 / fan-in; scales are 1, all else 0."""
        width = self.options.width
        params: Params = {}
        for name in ("stem", *self._convolutions):
            shape = (width, self.channels if name == "stem" else width, 3, 3)
            deviation = math.sqrt(2 / math.prod(shape[1:]))
            params[f"{name}.weight"] = deviation * key.fold(name).normal(shape)
        for name, channels in self.norm_layers.items():
            params[f"{name}.scale"] = torch.ones(channels)
            params[f"{name}.shift"] = torch.zeros(channels)
        params["head.weight"] = torch.zeros(self.outputs, width)
        params["head.bias"] = torch.zeros(self.outputs)
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
        """Outputs [n, outputs], or features [n, width] without the head."""
        hook = layer_hook or (lambda name, outputs: outputs)
        statistics: Statistics = {}
        activations: dict[str, Tensor] = {}

        def convolved(name: str, x: Tensor, stride: int = 1) -> Tensor:
            y = F.conv2d(x, params[f"{name}.weight"], stride=stride, padding=1)
            activations[name] = hook(name, y)
            return activations[name]

        def normalised(name: str, x: Tensor) -> Tensor:
            scale, shift = params[f"{name}.scale"], params[f"{name}.shift"]
            return F.relu(normalise(x, name, scale, shift, norm, statistics))

        x = convolved("stem", x, stride=2)
        for block in range(self.options.blocks):
            y = x
            for number in (1, 2):
                y = normalised(f"block{block}.norm{number}", y)
                y = convolved(f"block{block}.conv{number}", y)
            x = x + y
        features = x.mean((2, 3))
        if not head:
            return Output(features, features, statistics, activations)
        outputs = hook("head", F.linear(features, params["head.weight"], params["head.bias"]))
        return Output(outputs, features, statistics, {**activations, "head": outputs})


def build(options: Options, shape: TaskShape) -> Residual:
    """The network for tasks of this shape.

    Raises:
        RecipeError: the inputs are no images.
    """
    if len(shape.inputs) != 3:
        raise RecipeError(f"residual needs images [C, H, W], the data have {shape.inputs}")
    return Residual(options, shape.inputs[0], shape.outputs)
