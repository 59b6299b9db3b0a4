"""Networks: pure functions of a dict of tensors, one module each, found by their module name.

A module exports ``Options`` and ``build(options, shape)``, and ``NORMALISES = False`` if it has no
normalisation layers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from metadist.backbones._norm import Norm, Statistics
from metadist.discovery import Options, find, module_names, parse_options
from metadist.keys import Key
from metadist.tasks import Params, TaskShape

__all__ = [
    "Backbone",
    "Layer",
    "LayerHook",
    "Norm",
    "Statistics",
    "Trace",
    "build",
    "features",
    "names",
    "normalises",
    "options",
]

#: Activations [n, ...] by layer name, ``features`` being what enters the last layer.
Trace = dict[str, Tensor]
LayerHook = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """A linear map of a network: ``<name>.weight`` and perhaps ``<name>.bias``.

    Attributes:
        outputs: units or channels.
        bias: whether there is a bias.
    """

    name: str
    outputs: int
    bias: bool

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of weight and bias."""
        weight, bias = f"{self.name}.weight", f"{self.name}.bias"
        return (weight, bias) if self.bias else (weight,)


class Backbone(Protocol):
    """A network without state.

    Attributes:
        layers: linear maps from input to output; the last one is the head.
        norm_layers: channels of each normalisation layer, by layer name.
        norm_parameters: names of the parameters of normalisation layers; each is [C].
    """

    @property
    def layers(self) -> tuple[Layer, ...]: ...

    @property
    def norm_layers(self) -> dict[str, int]: ...

    @property
    def norm_parameters(self) -> frozenset[str]: ...

    def init(self, key: Key) -> Params:
        """Fresh parameters, float32 on the CPU."""

    def forward(
        self,
        params: Params,
        x: Tensor,
        norm: Norm,
        trace: Trace | None = None,
        *,
        layer_hook: LayerHook | None = None,
    ) -> tuple[Tensor, Statistics]:
        """Outputs [n, outputs] for examples [n, ...], and the statistics of each norm layer.

        The statistics are empty unless ``norm.record`` is set. ``trace`` receives the activations
        of each layer, by its name, and ``features``. ``layer_hook`` is given each layer's name and
        output, after the bias and before normalisation, and returns what takes its place.
        """


def features(network: Backbone, params: Params, x: Tensor, norm: Norm) -> Tensor:
    """What enters the last layer, [n, D], for examples [n, ...]."""
    trace: Trace = {}
    network.forward(params, x, norm, trace)
    return trace["features"]


def names() -> list[str]:
    """Names of all backbones."""
    return module_names(sys.modules[__name__])


def options(name: str, given: dict[str, Any]) -> Options:
    """The validated options of a backbone.

    Raises:
        RecipeError: unknown backbone or option.
    """
    module = find(sys.modules[__name__], name, "backbone")
    parsed: Options = parse_options(module.Options, given, "model")
    return parsed


def normalises(name: str) -> bool:
    """Whether a backbone may have normalisation layers; its module says so if not.

    Raises:
        RecipeError: unknown backbone.
    """
    return bool(getattr(find(sys.modules[__name__], name, "backbone"), "NORMALISES", True))


def build(name: str, given: dict[str, Any], shape: TaskShape) -> Backbone:
    """The backbone ``name`` for tasks of this shape.

    Raises:
        RecipeError: unknown backbone or option, or a shape it cannot work on.
    """
    module = find(sys.modules[__name__], name, "backbone")
    backbone: Backbone = module.build(options(name, given), shape)
    return backbone
