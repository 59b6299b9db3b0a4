"""A network around another: what learners that add to a network have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metadist.backbones import Backbone, Layer, Norm, Statistics, Trace
from metadist.tasks import Params


@dataclass(frozen=True)
class BackboneWrapper:
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

    def forward(
        self, params: Params, x: Tensor, norm: Norm, trace: Trace | None = None, **hooks: Any
    ) -> tuple[Tensor, Statistics]:
        return self.network.forward(params, x, norm, trace, **hooks)
