"""A pass through a network, by compiled kernels where they know it."""

from __future__ import annotations

from torch import Tensor

from metadist.backbones import Backbone, Norm, Statistics
from metadist.context import Context
from metadist.tasks import Params


def passed(
    network: Backbone, params: Params, x: Tensor, norm: Norm, ctx: Context, *, head: bool = True
) -> tuple[Tensor, Statistics]:
    """Outputs [n, N] (features [n, D] without the head), and statistics where ``norm.record`` is
    set; differentiable once."""
    if not ctx.functional:
        fused = network.fused_value(params, x, norm, head=head)
        if fused is not None:
            return fused
    output = network.forward(params, x, norm, head=head)
    return output.value, output.statistics
