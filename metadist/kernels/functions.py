"""Passes through a network as functions that autograd knows.

:class:`LossGradient` is differentiable once more: its backward pass is the exact product of the
second derivative with a direction, so that what a learner makes of the gradients (rates, curvature,
masks) stays on the tape and only the network does not. :class:`Loss` and :class:`Outputs` are
differentiable once. A further derivative raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from metadist.kernels.library import address, addresses
from metadist.kernels.network import Network, Objective, Outcome, Plan, Statistics

Optional = Tensor | None


class Pass:
    """One pass: what goes in, and where it lies.

    Attributes:
        x: examples [n, ...]; targets: labels int64 [n] or values [n, N].
        measured: receives the statistics [depth, 2, C] where they are wanted.
    """

    def __init__(
        self, network: Network, plan: Plan, x: Tensor, targets: Tensor | None, record: bool
    ) -> None:
        self.network, self.plan = network, plan
        self.x, self.targets = x.contiguous(), targets
        channels = plan.forms[1].stored[0]
        self.measured = plan.empty(network.depth, 2, channels) if record and network.norms else None

    def function(self, name: str) -> Any:
        """The C function of this pass's type."""
        return self.network.library.function(name, self.plan.dtype)

    def address(self, tensor: Optional, count: int = 0) -> int | None:
        """Of a buffer of so many numbers."""
        return address(tensor, self.plan.dtype, count)

    def pointers(self, stored: Sequence[Optional]) -> Any:
        """Of parameters as the kernels have them."""
        forms = self.plan.forms
        return addresses(
            [self.address(t, one.count) for t, one in zip(stored, forms, strict=True)]
        )

    def loss(
        self, stored: Sequence[Optional], gradients: Outcome
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, outputs [n, N] and the pass's state; the gradients are written.

        Raises:
            IndexError: a label is none of the outputs.
        """
        plan, n = self.plan, len(self.x)
        targets = self.targets
        assert targets is not None
        if self.plan.shape.objective:
            targets_at = self.address(targets.contiguous(), n * plan.shape.outputs)
        else:
            targets_at = address(targets.contiguous(), torch.int64, n)
        state, loss = plan.empty(plan.state), plan.empty()
        outputs = plan.empty(n, plan.shape.outputs)
        scratch = plan.empty(plan.scratch)
        failed = self.function("loss")(
            plan.shape,
            self.address(self.x),
            targets_at,
            self.pointers(stored),
            self.address(state, plan.state),
            self.address(scratch, plan.scratch),
            self.address(outputs),
            self.address(loss),
            self.address(self.measured),
            gradients.pointers,
        )
        if failed:
            raise IndexError(
                f"kernels: labels of 0 to {plan.shape.outputs - 1} are needed, got "
                f"{int(targets.min())} to {int(targets.max())}"
            )
        return loss, outputs, state

    def forward(self, stored: Sequence[Optional]) -> tuple[Tensor, Tensor]:
        """Outputs [n, N] (or features [n, D] where there is no head) and the pass's state."""
        plan, n = self.plan, len(self.x)
        state = plan.empty(plan.state)
        outputs = plan.empty(n, plan.shape.outputs or plan.features)
        self.function("forward")(
            plan.shape,
            self.address(self.x),
            self.pointers(stored),
            self.address(state, plan.state),
            self.address(outputs),
            self.address(self.measured),
        )
        return outputs, state

    def backward(
        self, stored: Sequence[Optional], state: Tensor, direction: Tensor, gradients: Outcome
    ) -> None:
        """Gradients of what has the derivative ``direction`` with respect to the outputs."""
        scratch = self.plan.empty(self.plan.scratch)
        self.function("backward")(
            self.plan.shape,
            self.pointers(stored),
            self.address(state, self.plan.state),
            self.address(scratch, self.plan.scratch),
            self.address(direction, len(self.x) * (self.plan.shape.outputs or self.plan.features)),
            gradients.pointers,
        )

    def tangent(
        self,
        stored: Sequence[Optional],
        state: Tensor,
        directions: Sequence[Optional],
        of_loss: float,
        products: Outcome,
    ) -> None:
        """Products of the second derivative with directions, and ``of_loss`` times the first."""
        scratch = self.plan.empty(self.plan.scratch2)
        self.function("tangent")(
            self.plan.shape,
            self.pointers(stored),
            self.pointers(directions),
            of_loss,
            self.address(state, self.plan.state),
            self.address(scratch, self.plan.scratch2),
            products.pointers,
        )


class LossGradient(Function):
    """Loss and gradients; see the module."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, one: Pass, wanted: tuple[bool, ...], *tensors: Optional
    ) -> tuple[Tensor, ...]:
        stored = one.plan.stored(tensors)
        gradients = one.plan.outcome(wanted)
        loss, _, state = one.loss(stored, gradients)
        if one.plan.shape.keep == 2:
            ctx.one, ctx.wanted = one, wanted
            ctx.save_for_backward(state, *stored)
            ctx.set_materialize_grads(False)
        return (loss, *(g for g in gradients.tensors() if g is not None))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_loss: Optional, *of_gradients: Optional) -> tuple[Optional, ...]:
        one: Pass = ctx.one
        state, *stored = ctx.saved_tensors
        given = iter(of_gradients)
        directions = one.plan.stored([next(given) if want else None for want in ctx.wanted])
        products = one.plan.outcome(ctx.needs_input_grad[2:])
        weight = 0.0 if of_loss is None else float(of_loss)
        one.tangent(stored, state, directions, weight, products)
        return (None, None, *products.tensors())


class Loss(Function):
    """Loss, and outputs [n, N] as constants."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, one: Pass, wanted: tuple[bool, ...], *tensors: Optional
    ) -> tuple[Tensor, Tensor]:
        gradients = one.plan.outcome(wanted)
        loss, outputs, _ = one.loss(one.plan.stored(tensors), gradients)
        ctx.gradients = gradients
        ctx.mark_non_differentiable(outputs)
        return loss, outputs

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_loss: Tensor, _: Tensor) -> tuple[Optional, ...]:
        return (
            None,
            None,
            *(None if g is None else g * of_loss for g in ctx.gradients.tensors()),
        )


class Outputs(Function):
    """Outputs [n, N], or features [n, D]."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, one: Pass, wanted: tuple[bool, ...], *tensors: Optional
    ) -> Tensor:
        stored = one.plan.stored(tensors)
        outputs, state = one.forward(stored)
        ctx.one, ctx.wanted, ctx.used = one, wanted, False
        ctx.save_for_backward(state, *stored)
        return outputs

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, direction: Tensor) -> tuple[Optional, ...]:
        if ctx.used:
            raise RuntimeError(
                "kernels: the derivative of this pass was taken already, and it is kept for one; "
                "take all derivatives in one call, or compute with engine.kernels = 'torch'"
            )
        ctx.used = True
        state, *stored = ctx.saved_tensors
        gradients = ctx.one.plan.outcome(ctx.wanted)
        ctx.one.backward(stored, state, direction.contiguous(), gradients)
        return (None, None, *gradients.tensors())


def _wanted(tensors: Sequence[Optional]) -> tuple[bool, ...]:
    """Which of them are differentiated with respect to."""
    if not torch.is_grad_enabled():
        return (False,) * len(tensors)
    return tuple(t is not None and t.requires_grad for t in tensors)


def loss_gradient(
    network: Network,
    params: Mapping[str, Tensor],
    wrt: Sequence[str],
    x: Tensor,
    targets: Tensor,
    objective: Objective,
    scale: float,
    record: bool,
) -> tuple[Tensor, dict[str, Tensor], Statistics]:
    """``scale`` times the loss, its gradients, both differentiable once more, and statistics."""
    tensors = network.tensors(params)
    wanted = tuple(name in wrt for name in network.names)
    keep = 2 if any(_wanted(tensors)) else 1
    plan = network.plan(x, keep, network.lowest(wanted), objective, float(scale))
    one = Pass(network, plan, x, targets, record)
    loss, *gradients = LossGradient.apply(one, wanted, *tensors)  # type: ignore[no-untyped-call]
    names = [name for name, want in zip(network.names, wanted, strict=True) if want]
    return loss, dict(zip(names, gradients, strict=True)), network.statistics(one.measured)


def loss(
    network: Network,
    params: Mapping[str, Tensor],
    x: Tensor,
    targets: Tensor,
    objective: Objective,
) -> tuple[Tensor, Tensor]:
    """The loss, differentiable once, and outputs [n, N], constants."""
    tensors = network.tensors(params)
    wanted = _wanted(tensors)
    plan = network.plan(x, int(any(wanted)), network.lowest(wanted), objective)
    one = Pass(network, plan, x, targets, record=False)
    value, outputs = Loss.apply(one, wanted, *tensors)  # type: ignore[no-untyped-call]
    return value, outputs


def outputs(
    network: Network, params: Mapping[str, Tensor], x: Tensor, *, head: bool, record: bool
) -> tuple[Tensor, Statistics]:
    """Outputs [n, N], or features [n, D], differentiable once, and statistics."""
    tensors = network.tensors(params, head=head)
    wanted = _wanted(tensors)
    plan = network.plan(x, int(any(wanted)), network.lowest(wanted), head=head)
    one = Pass(network, plan, x, None, record)
    value = Outputs.apply(one, wanted, *tensors)  # type: ignore[no-untyped-call]
    if not head:
        value = network.features(value)
    return value, network.statistics(one.measured)
