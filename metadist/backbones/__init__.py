"""Networks as pure functions of a dict of tensors, one module each, found by their module name.

A module exports ``Options`` and ``build(options, shape)``.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

from torch import Tensor

from metadist.backbones._norm import Norm, Statistics
from metadist.discovery import Options, find, module_names, parse_options
from metadist.keys import Key
from metadist.tasks import Params, TaskShape

__all__ = ["Backbone", "Norm", "Statistics", "build", "names", "options"]


class Backbone(Protocol):
    """A network without state.

    Attributes:
        norm_layers: channels of each normalisation layer, by layer name.
        norm_parameters: names of the parameters of normalisation layers.
    """

    norm_layers: dict[str, int]
    norm_parameters: frozenset[str]

    def init(self, key: Key) -> Params:
        """Fresh parameters, float32 on the CPU."""

    def forward(self, params: Params, x: Tensor, norm: Norm) -> tuple[Tensor, Statistics]:
        """Outputs [n, outputs] for examples [n, ...], and the statistics of each norm layer.

        The statistics are empty unless ``norm.record`` is set.
        """


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


def build(name: str, given: dict[str, Any], shape: TaskShape) -> Backbone:
    """The backbone ``name`` for tasks of this shape.

    Raises:
        RecipeError: unknown backbone or option, or a shape it cannot work on.
    """
    module = find(sys.modules[__name__], name, "backbone")
    backbone: Backbone = module.build(options(name, given), shape)
    return backbone
