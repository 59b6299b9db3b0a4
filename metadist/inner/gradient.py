"""One gradient of the support loss, differentiable or not, on the tape or through torch.func."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metadist.tasks import Params


def gradient(
    loss: Callable[[Params], tuple[Tensor, Any]],
    params: Params,
    *,
    second_order: bool,
    functional: bool,
) -> tuple[Params, Any]:
    """The gradient of ``loss`` (which returns a scalar and something to pass on) at ``params``.

    With ``second_order`` the result can be differentiated with respect to whatever ``params``
    depend on; without it, it is a constant. ``functional`` uses ``torch.func.grad``, which nests
    under ``vmap``; otherwise the tape is used, which is faster for one task at a time.
    """
    if functional:
        gradients, extra = torch.func.grad(loss, has_aux=True)(params)
        if not second_order:
            gradients = {name: g.detach() for name, g in gradients.items()}
        return gradients, extra
    differentiable = second_order and torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = {
            name: p
            if differentiable and p.requires_grad
            else p.detach().requires_grad_(p.is_floating_point())
            for name, p in params.items()
        }
        value, extra = loss(leaves)
        tensors = torch.autograd.grad(
            value, list(leaves.values()), create_graph=differentiable, materialize_grads=True
        )
    return dict(zip(leaves, tensors, strict=True)), extra
