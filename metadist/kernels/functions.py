"""Passes through a network as functions that autograd knows.

:class:`LossGradient` is differentiable once more: its backward pass is the exact product of the
second derivative with a direction, so that what a learner makes of the gradients (rates, curvature,
masks) stays on the tape and only the network does not. :class:`Scored` is differentiable once. A
further derivative raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from metadist.kernels.library import address
from metadist.kernels.network import Network, Objective, Statistics
from metadist.kernels.plan import Outcome, Plan

Optional = Tensor | None


class Pass:
    """One pass: what goes in, and where its results are.

    Attributes:
        measured: receives the statistics [depth, 2, C] where they are wanted.
    """

    def __init__(
        self, network: Network, plan: Plan, x: Tensor, targets: Tensor | None, record: bool
    ) -> None:
        """x: examples [n, ...]; targets: labels int64 [n], values [n, N] or none."""
        self.network, self.plan = network, plan
        self.x = x.contiguous()
        self.targets = None if targets is None else targets.contiguous()
        recorded = record and network.norms
        channels = plan.forms[1].count
        self.measured = plan.empty(network.depth, 2, channels) if recorded else None

    def _function(self, name: str) -> Any:
        return self.network.library.function(name, self.plan.dtype)

    def _address(self, tensor: Optional, count: int = 0) -> int | None:
        return None if tensor is None else address(tensor, self.plan.dtype, count)

    def loss(
        self, stored: Sequence[Optional], gradients: Outcome | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, outputs [n, N] and the pass's state; gradients are written where they are wanted.

        Raises:
            IndexError: a label is none of the outputs.
        """
        plan, n, targets = self.plan, len(self.x), self.targets
        assert targets is not None
        wanted, count = (plan.dtype, n * plan.results) if plan.shape.objective else (torch.int64, n)
        state, loss, outputs = plan.empty(plan.state), plan.empty(), plan.empty(n, plan.results)
        scratch = plan.empty(plan.scratch)
        failed = self._function("loss")(
            plan.shape,
            self._address(self.x),
            address(targets, wanted, count),
            plan.pointers(stored),
            state.data_ptr(),
            scratch.data_ptr(),
            outputs.data_ptr(),
            loss.data_ptr(),
            self._address(self.measured),
            None if gradients is None else gradients.pointers,
        )
        if failed:
            raise IndexError(
                f"kernels: labels of 0 to {plan.results - 1} are needed, got {int(targets.min())} "
                f"to {int(targets.max())}"
            )
        return loss, outputs, state

    def forward(self, stored: Sequence[Optional]) -> tuple[Tensor, Tensor]:
        """Outputs [n, N] (or features [n, D] where there is no head) and the pass's state."""
        plan = self.plan
        state, outputs = plan.empty(plan.state), plan.empty(len(self.x), plan.results)
        self._function("forward")(
            plan.shape,
            self._address(self.x),
            plan.pointers(stored),
            state.data_ptr(),
            outputs.data_ptr(),
            self._address(self.measured),
        )
        return outputs, state

    def backward(
        self,
        stored: Sequence[Optional],
        state: Tensor,
        of_loss: float,
        of_outputs: Optional,
        gradients: Outcome,
    ) -> None:
        """Gradients of ``of_loss`` times the loss and of what has the derivative ``of_outputs``."""
        plan = self.plan
        scratch = plan.empty(plan.scratch)
        self._function("backward")(
            plan.shape,
            plan.pointers(stored),
            self._address(state, plan.state),
            scratch.data_ptr(),
            of_loss,
            self._address(of_outputs, len(self.x) * plan.results),
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
        plan = self.plan
        scratch = plan.empty(plan.scratch2)
        self._function("tangent")(
            plan.shape,
            plan.pointers(stored),
            plan.pointers(directions),
            of_loss,
            self._address(state, plan.state),
            scratch.data_ptr(),
            products.pointers,
        )


class _Last(Function):
    """Derivatives that cannot be differentiated: whoever tries is told so, not given zeros."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *of: Optional) -> tuple[Optional, ...]:
        raise RuntimeError(
            "kernels: a pass was differentiated more often than its kernels can be (a support pass "
            "twice, any other once); compute with engine.kernels = 'torch'"
        )


def _last(found: Sequence[Optional], *depend_on: Optional) -> tuple[Optional, ...]:
    """Derivatives found, as the last ones of what they depend on."""
    if not torch.is_grad_enabled():
        return tuple(found)
    results = [f for f in found if f is not None]
    inputs = [t for t in depend_on if t is not None]
    marked = iter(_Last.apply(len(results), *results, *inputs))  # type: ignore[no-untyped-call]
    return tuple(None if f is None else next(marked) for f in found)


class LossGradient(Function):
    """Loss, and gradients of what is wanted, both differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, one: Pass, wanted: tuple[bool, ...], *tensors: Optional
    ) -> tuple[Tensor, ...]:
        stored = one.plan.stored(tensors)
        gradients = one.plan.outcome(wanted)
        loss, _, state = one.loss(stored, gradients)
        if one.plan.shape.keep == 2:
            ctx.one, ctx.wanted, ctx.stored = one, wanted, stored
            ctx.save_for_backward(state, *tensors)
            ctx.set_materialize_grads(False)
        return (loss, *(g for g in gradients.tensors() if g is not None))

    @staticmethod
    def backward(ctx: Any, of_loss: Optional, *of_gradients: Optional) -> tuple[Optional, ...]:
        one: Pass = ctx.one
        state, *tensors = ctx.saved_tensors
        products = one.plan.outcome(ctx.needs_input_grad[2:])
        with torch.no_grad():
            given = iter(of_gradients)
            directions = one.plan.stored([next(given) if want else None for want in ctx.wanted])
            weight = 0.0 if of_loss is None else of_loss.item()
            one.tangent(ctx.stored, state, directions, weight, products)
            found = products.tensors()
        return (None, None, *_last(found, of_loss, *of_gradients, *tensors))


class Scored(Function):
    """Outputs [n, N] (or features [n, D]), behind their loss where there are targets."""

    @staticmethod
    def forward(
        ctx: Any, one: Pass, wanted: tuple[bool, ...], *tensors: Optional
    ) -> tuple[Tensor, ...] | Tensor:
        stored = one.plan.stored(tensors)
        if one.targets is None:
            result, state = one.forward(stored)
            results: tuple[Tensor, ...] = (result,)
        else:
            *results_, state = one.loss(stored, None)
            results = tuple(results_)
        if one.plan.shape.keep:
            ctx.one, ctx.wanted, ctx.stored, ctx.used = one, wanted, stored, False
            ctx.save_for_backward(state, *tensors)
            ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *of_results: Optional) -> tuple[Optional, ...]:
        if ctx.used:
            raise RuntimeError(
                "kernels: the derivative of this pass was taken already, and it is kept for one; "
                "take all derivatives in one call, or compute with engine.kernels = 'torch'"
            )
        ctx.used = True
        one: Pass = ctx.one
        state, *tensors = ctx.saved_tensors
        gradients = one.plan.outcome(ctx.wanted)
        with torch.no_grad():
            *losses, of_outputs = of_results
            of_loss = sum(of.item() for of in losses if of is not None)
            direction = None if of_outputs is None else of_outputs.contiguous()
            one.backward(ctx.stored, state, of_loss, direction, gradients)
            found = gradients.tensors()
        return (None, None, *_last(found, *of_results, *tensors))


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
    plan = network.plan(x, keep, network.lowest(wanted), objective, scale)
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
    """The loss and outputs [n, N], differentiable once."""
    tensors = network.tensors(params)
    wanted = _wanted(tensors)
    plan = network.plan(x, int(any(wanted)), network.lowest(wanted), objective)
    one = Pass(network, plan, x, targets, record=False)
    value, outputs = Scored.apply(one, wanted, *tensors)  # type: ignore[no-untyped-call]
    return value, outputs


def outputs(
    network: Network, params: Mapping[str, Tensor], x: Tensor, *, head: bool, record: bool
) -> tuple[Tensor, Statistics]:
    """Outputs [n, N], or features [n, D], differentiable once, and statistics."""
    tensors = network.tensors(params, head=head)
    wanted = _wanted(tensors)
    plan = network.plan(x, int(any(wanted)), network.lowest(wanted), head=head)
    one = Pass(network, plan, x, None, record)
    (value,) = Scored.apply(one, wanted, *tensors)  # type: ignore[no-untyped-call]
    return value if head else network.features(value), network.statistics(one.measured)
