"""A network around another: what learners that add to one, or take from it, have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metadist.backbones import Backbone, Layer, Norm, Output, Statistics
from metadist.keys import Key
from metadist.objectives import Objective
from metadist.tasks import Examples, Params


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

    @property
    def drops(self) -> bool:
        return self.network.drops

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        return self.network.forward(params, x, norm, **how)

    def arranged(self, params: Params) -> Params:
        return self.network.arranged(params)


@dataclass(frozen=True)
class Reparametrised(BackboneWrapper):
    """A backbone whose passes are another's with parameters that depend on the pass."""

    @abstractmethod
    def inside(self, params: Params, norm: Norm) -> Params:
        """The other's parameters; those that are the same are the same objects."""

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        return super().forward(self.inside(params, norm), x, norm, **how)

    def loss_gradient(
        self,
        params: Params,
        wrt: tuple[str, ...],
        examples: Examples,
        norm: Norm,
        objective: Objective,
        scale: float,
    ) -> tuple[Tensor, Params, Statistics] | None:
        inside = self.inside(params, norm)
        if any(inside[name] is not params[name] for name in wrt):
            return None
        return self.network.loss_gradient(inside, wrt, examples, norm, objective, scale)

    def fused_loss(
        self, params: Params, examples: Examples, norm: Norm, objective: Objective
    ) -> tuple[Tensor, Tensor] | None:
        return self.network.fused_loss(self.inside(params, norm), examples, norm, objective)

    def fused_value(
        self, params: Params, x: Tensor, norm: Norm, *, head: bool = True
    ) -> tuple[Tensor, Statistics] | None:
        return self.network.fused_value(self.inside(params, norm), x, norm, head=head)


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

    def fused_value(
        self, params: Params, x: Tensor, norm: Norm, *, head: bool = False
    ) -> tuple[Tensor, Statistics] | None:
        return self.network.fused_value(params, x, norm, head=False)
