"""The derivatives of a network, first and second, on the tape, under vmap and fused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist import objectives
from metadist.contracts.backbone.net import EXACT, Net
from metadist.contracts.differences import (
    TOLERANCE,
    difference,
    directions,
    distance,
    dot,
    length,
    slope,
)
from metadist.contracts.finding import NO_VMAP, Finding, brief, found, place
from metadist.contracts.settings import SEED
from metadist.tasks import Params, Prediction


def _gradient(net: Net, params: Params, create_graph: bool = False) -> tuple[Params, Params]:
    leaves = {n: p.detach().requires_grad_() for n, p in params.items()}
    with torch.enable_grad():
        tensors = torch.autograd.grad(
            net.loss(leaves), [*leaves.values()], create_graph=create_graph, materialize_grads=True
        )
    return dict(zip(leaves, tensors, strict=True)), leaves


def gradient(net: Net) -> Iterator[Finding]:
    """The first derivative is that of central differences."""
    first, _ = _gradient(net, net.params)
    yield from _against(net, net.loss, first, "first derivative of a loss")


def second_gradient(net: Net) -> Iterator[Finding]:
    """The second derivative is that of central differences of the first."""
    first, leaves = _gradient(net, net.params, create_graph=True)
    along = {n: SEED.fold("along", n).normal(p.shape, torch.float64) for n, p in first.items()}
    dotted = dot(first, along)
    try:
        tensors = torch.autograd.grad(dotted, [*leaves.values()], materialize_grads=True)
    except RuntimeError as error:
        yield found(
            "a network that can be differentiated twice",
            next(iter(str(error).splitlines())),
            "leave out detach(), .data and functions without a second derivative",
        )
        return

    def value(params: Params) -> Tensor:
        return torch.tensor(slope(_gradient(net, params)[0], along), dtype=torch.float64)

    second = dict(zip(leaves, tensors, strict=True))
    yield from _against(net, value, second, "second derivative of a loss")


def _against(
    net: Net, value: Callable[[Params], Tensor], gradients: Params, what: str
) -> Iterator[Finding]:
    size, checked, free = length(gradients), 0, 0
    for direction in directions(gradients, SEED):
        measured = difference(value, net.params, direction)
        free += 1
        if measured is None:
            continue
        checked += 1
        said = slope(gradients, direction)
        if abs(said - measured) > 10 * TOLERANCE * max(size, 1e-12):
            yield found(
                f"the {what} by the tape as by central differences",
                f"{said:.6g} where they are {measured:.6g}",
                "look for detach(), .data, in-place changes and hand-written backward passes",
            )
            return
        if checked == net.enough:
            return
    if not checked:
        yield found(
            f"a direction without a kink, to tell the {what} by",
            f"a kink along each of {free}: it cannot be told",
            "nothing, if the network is meant to have so many",
            "note",
        )


def vmap(net: Net) -> Iterator[Finding]:
    """``vmap(grad(grad))`` gives what the tape gives."""
    scales = torch.tensor([1.0, 0.5], dtype=torch.float64)

    def inner(params: Params, x: Tensor) -> Tensor:
        value = net.network.forward(params, x, net.batch).value
        return F.cross_entropy(value, net.examples.y) if net.shape.ways else value.square().mean()

    def outer(params: Params, x: Tensor) -> Tensor:
        gradients = torch.func.grad(inner)(params, x)
        return inner({n: p - 0.1 * gradients[n] for n, p in params.items()}, x)

    def one(scale: Tensor) -> Any:
        return torch.func.grad(outer)(net.params, net.x * scale)

    try:
        together = torch.func.vmap(one)(scales)
    except Exception as error:
        yield replace(
            found(
                "a network that engine.mode = 'vmap' can pass several tasks through at once",
                f"that it is not possible: {brief(error)}",
                NO_VMAP,
                "warning",
            ),
            where=place(error, None),
        )
        return
    for row, scale in enumerate(scales):
        leaves = {n: p.detach().requires_grad_() for n, p in net.params.items()}
        x = net.x * scale
        first = torch.autograd.grad(
            inner(leaves, x), [*leaves.values()], create_graph=True, materialize_grads=True
        )
        moved = {n: p - 0.1 * g for (n, p), g in zip(leaves.items(), first, strict=True)}
        tensors = torch.autograd.grad(inner(moved, x), [*leaves.values()], materialize_grads=True)
        wanted = dict(zip(leaves, tensors, strict=True))
        apart = distance({n: t[row] for n, t in together.items()}, wanted)
        if not apart <= EXACT:
            yield found(
                "second-order gradients of vmap(grad(grad)) as of the tape",
                f"ones that differ by {apart:.1g}, relative",
                "write the operation from primitives",
            )
            return


def loss_gradient(net: Net) -> Iterator[Finding]:
    """Where it is not None: the tape's loss, gradient and second order."""
    objective = objectives.build("", {}, net.shape)
    wrt = tuple(net.params)
    leaves = {n: p.detach().requires_grad_() for n, p in net.params.items()}

    def fused(params: Params) -> Any:
        return net.network.loss_gradient(params, wrt, net.examples, net.batch, objective, 2.0)

    if (got := fused(leaves)) is None:
        return
    value = 2.0 * objective.loss(Prediction(net.passed(leaves).value), net.examples)
    tensors = torch.autograd.grad(
        value, [*leaves.values()], create_graph=True, materialize_grads=True
    )
    wanted = dict(zip(wrt, tensors, strict=True))
    loss, gradients, statistics = got
    mend = "compare with the tape; `return None` leaves it to that"
    if abs(float(loss) - float(value)) > EXACT * max(1.0, abs(float(value))):
        yield found(f"a loss of loss_gradient of {float(value):.9g}", f"{float(loss):.9g}", mend)
    if set(gradients) != set(wrt) or distance(gradients, wanted) > EXACT:
        yield found("gradients of loss_gradient as of the tape", "others", mend)
        return
    if set(statistics) != set(net.network.norm_layers):
        yield found("statistics of loss_gradient of each norm layer", sorted(statistics), mend)
    along = {n: SEED.fold("along", n).normal(p.shape, torch.float64) for n, p in wanted.items()}
    seconds = []
    for first in (gradients, wanted):
        dotted = dot(first, along)
        try:
            second = torch.autograd.grad(
                dotted, [*leaves.values()], materialize_grads=True, retain_graph=True
            )
        except RuntimeError:
            yield found("gradients of loss_gradient that can be differentiated", "constants", mend)
            return
        seconds.append(dict(zip(wrt, second, strict=True)))
    if distance(*seconds) > EXACT:
        yield found("second derivatives through loss_gradient as of the tape", "others", mend)


CHECKS = (gradient, second_gradient, vmap, loss_gradient)
