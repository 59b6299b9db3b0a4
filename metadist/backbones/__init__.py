"""Networks: pure functions of a dict of tensors, one module each, found by their module name.

A module exports ``Options`` and ``build(options, shape)``, and ``NORMALISES = False`` if it has no
normalisation layers. ``metadist.from_module`` makes both of a factory of ``torch.nn`` modules.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metadist.backbones._drop_block import DropBlock, Drops
from metadist.backbones._norm import Norm, Statistics, normalise
from metadist.discovery import Options, find, module_names, parse_options
from metadist.kernels.library import Library
from metadist.keys import Key
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, TaskShape

__all__ = [
    "Backbone",
    "DropBlock",
    "Drops",
    "Layer",
    "LayerHook",
    "Norm",
    "Output",
    "Statistics",
    "build",
    "names",
    "normalise",
    "normalises",
    "options",
]

LayerHook = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Output:
    """What a pass through a network gives.

    Attributes:
        value: outputs [n, outputs]; of a pass without the head, the features.
        features: what enters the head, [n, D].
        statistics: of each norm layer, where ``norm.record`` is set.
        activations: [n, ...] of each layer, by its name: after normalisation and non-linearity
            where the network says what belongs to a layer; of a module, which does not say it, what
            the linear map itself puts out, bias included.
    """

    value: Tensor
    features: Tensor
    statistics: Statistics
    activations: dict[str, Tensor]


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


class Backbone(ABC):
    """A network without state: pure functions of its parameters."""

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """Linear maps from input to output; the last one is the head."""

    @property
    def norm_layers(self) -> dict[str, int]:
        """Channels of each normalisation layer, by layer name."""
        return {}

    @property
    def norm_parameters(self) -> frozenset[str]:
        """Names of the parameters of normalisation layers; each is [C]."""
        return frozenset()

    @property
    def drops(self) -> bool:
        """Whether passes drop something where ``norm.drops`` says what."""
        return False

    @abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh parameters, float32 on the CPU."""

    @abstractmethod
    def forward(
        self,
        params: Params,
        x: Tensor,
        norm: Norm,
        *,
        head: bool = True,
        layer_hook: LayerHook | None = None,
    ) -> Output:
        """A pass over examples [n, ...].

        Args:
            head: go through the last layer too; without, its parameters need not be there.
            layer_hook: is given each layer's name and output, after the bias and before
                normalisation, and returns what takes its place.
        """

    def loss_gradient(
        self,
        params: Params,
        wrt: tuple[str, ...],
        examples: Examples,
        norm: Norm,
        objective: Objective,
        scale: float,
    ) -> tuple[Tensor, Params, Statistics] | None:
        """``scale`` times the objective's loss of examples, its gradient and the statistics, fused.

        Asked where tasks are computed one by one; several at once (``vmap``) are the tape's.

        Args:
            wrt: names of the parameters whose gradient is wanted.

        Returns:
            Loss, gradients by name, both differentiable once more, and statistics where
            ``norm.record`` is set; None where the network does not know how, and the tape does it.
        """
        return None

    def fused_loss(
        self, params: Params, examples: Examples, norm: Norm, objective: Objective
    ) -> tuple[Tensor, Tensor] | None:
        """The objective's loss of examples and the outputs [n, outputs], fused.

        Returns:
            Both, differentiable once; None where the network does not know how.
        """
        return None

    def fused_value(
        self, params: Params, x: Tensor, norm: Norm, *, head: bool = True
    ) -> tuple[Tensor, Statistics] | None:
        """Value and statistics of :meth:`forward`, fused.

        Returns:
            The value, differentiable once, and statistics where ``norm.record`` is set; None where
            the network does not know how.
        """
        return None

    def arranged(self, params: Params) -> Params:
        """The same numbers in whatever order of memory fused passes are fastest with."""
        return params

    def with_kernels(self, library: Library) -> Backbone:
        """This network with passes that compiled kernels compute; itself where it has none.

        None of them is asked for under ``torch.func``.
        """
        return self


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
