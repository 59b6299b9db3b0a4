"""A network around another: what learners that add to one, or take from it, have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metadist.backbones import Backbone, Layer, Norm, Output
from metadist.keys import Key
from metadist.tasks import Params


@dataclass(frozen=True)
class BackboneWrapper(Backbone):
    """A backbone with the layers of another one; subclasses have their own ``init``."""

    network: Backbone

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.network.layers

    @property
    def norm_layers(self) -> dict[str, int]:
        return self.network.norm_layers

    @property
    def norm_parameters(self) -> frozenset[str]:
        return self.network.norm_parameters

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        return self.network.forward(params, x, norm, **how)


@dataclass(frozen=True)
class Encoder(BackboneWrapper):
    """A backbone without its head: its value are features, and nothing in it has a size of ways."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.network.layers[:-1]

    def init(self, key: Key) -> Params:
        """The network's parameters without the head's."""
        head = self.network.layers[-1].parameters
        return {name: p for name, p in self.network.init(key).items() if name not in head}

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        """Features [n, D] for examples [n, ...]."""
        return super().forward(params, x, norm, **{**how, "head": False})
