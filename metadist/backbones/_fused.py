"""Networks whose passes compiled kernels know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from metadist.backbones import Backbone
from metadist.backbones._norm import Norm, Statistics
from metadist.kernels import functions
from metadist.kernels.network import Network
from metadist.objectives import Objective
from metadist.tasks import Examples, Params


class Fused(Backbone):
    """A network that may have kernels; a pass that they do not know is left to torch.

    Attributes:
        kernels: the network as they know it; None: torch computes.
    """

    kernels: Network | None

    def _knows(
        self, params: Mapping[str, Tensor], x: Tensor, norm: Norm, *, head: bool = True
    ) -> Network | None:
        """The kernels, if they compute such a pass."""
        if self.kernels is None or (self.kernels.norms and norm.kind != "batch"):
            return None
        return self.kernels if self.kernels.known(params, x, head=head) else None

    def loss_gradient(
        self,
        params: Params,
        wrt: tuple[str, ...],
        examples: Examples,
        norm: Norm,
        objective: Objective,
        scale: float,
    ) -> tuple[Tensor, Params, Statistics] | None:
        if self.kernels is None:
            return None
        kernels = self._knows(params, examples.x, norm)
        known = _known_loss(objective, examples)
        if kernels is None or known is None or not set(wrt) <= set(kernels.names):
            return None
        return functions.loss_gradient(
            kernels, params, wrt, examples.x, examples.y, known, float(scale), norm.record
        )

    def fused_loss(
        self, params: Params, examples: Examples, norm: Norm, objective: Objective
    ) -> tuple[Tensor, Tensor] | None:
        if self.kernels is None:
            return None
        kernels = self._knows(params, examples.x, norm)
        known = _known_loss(objective, examples)
        if kernels is None or known is None:
            return None
        return functions.loss(kernels, params, examples.x, examples.y, known)

    def fused_value(
        self, params: Params, x: Tensor, norm: Norm, *, head: bool = True
    ) -> tuple[Tensor, Statistics] | None:
        kernels = self._knows(params, x, norm, head=head)
        if kernels is None:
            return None
        return functions.outputs(kernels, params, x, head=head, record=norm.record)

    def arranged(self, params: Params) -> Params:
        return params if self.kernels is None else self.kernels.arranged(params)


def _known_loss(
    objective: Objective, examples: Examples
) -> Literal["cross_entropy", "squared_error"] | None:
    """The loss as the kernels know it, of examples that all count.

    What a class says of its own loss is not true of the loss of one that is derived from it.
    """
    declared: Literal["cross_entropy", "squared_error"] | None
    declared = vars(type(objective)).get("fused")
    if declared is None or examples.mask is not None:
        return None
    return declared if declared == "cross_entropy" or examples.y.dim() == 2 else None
