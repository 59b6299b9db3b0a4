"""The derivatives of a network, first and second, on the tape, under vmap and fused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist import objectives
from metadist.contracts.backbone.net import Net
from metadist.contracts.differences import (
    EXACT,
    TOLERANCE,
    derivative,
    distance,
    dot,
    leaves_of,
    random_direction,
    slope,
    slopes,
)
from metadist.contracts.finding import Finding, first_line, found, not_together
from metadist.contracts.settings import SEED
from metadist.tasks import Params, Prediction


def _gradient(net: Net, params: Params) -> Params:
    leaves = leaves_of(params)
    with torch.enable_grad():
        return derivative(net.loss(leaves), leaves)


def gradient(net: Net) -> Iterator[Finding]:
    """The first derivative is that of central differences."""
    first = _gradient(net, net.params)
    yield from _against(net, net.loss, first, "first derivative of a loss")


def second_gradient(net: Net) -> Iterator[Finding]:
    """The second derivative is that of central differences of the first."""
    leaves = leaves_of(net.params)
    along = random_direction(leaves, SEED)
    dotted = dot(derivative(net.loss(leaves), leaves, create_graph=True), along)
    try:
        second = derivative(dotted, leaves)
    except RuntimeError as error:
        yield found(
            "a network that can be differentiated twice",
            first_line(error),
            "leave out detach(), .data and functions without a second derivative",
        )
        return

    def value(params: Params) -> Tensor:
        return torch.tensor(slope(_gradient(net, params), along), dtype=torch.float64)

    yield from _against(net, value, second, "second derivative of a loss")


def _against(
    net: Net, value: Callable[[Params], Tensor], gradients: Params, what: str
) -> Iterator[Finding]:
    got = slopes(value, net.params, gradients, SEED, net.enough)
    if got.worst > 10 * TOLERANCE:
        yield found(
            f"the {what} by the tape as by central differences",
            f"{got.said:.6g} where they are {got.measured:.6g}",
            "look for detach(), .data, in-place changes and hand-written backward passes",
        )
    if not got.checked:
        yield found(
            f"a direction without a kink, to tell the {what} by",
            f"a kink along each of {got.tried}: it cannot be told",
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
        what = "a network that engine.mode = 'vmap' can pass several tasks through at once"
        yield not_together(what, error)
        return
    for row, scale in enumerate(scales):
        leaves, x = leaves_of(net.params), net.x * scale
        first = derivative(inner(leaves, x), leaves, create_graph=True)
        moved = {n: p - 0.1 * first[n] for n, p in leaves.items()}
        wanted = derivative(inner(moved, x), leaves)
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
    leaves = leaves_of(net.params)
    got = net.network.loss_gradient(leaves, wrt, net.examples, net.batch, objective, 2.0)
    if got is None:
        return
    value = 2.0 * objective.loss(Prediction(net.passed(leaves).value), net.examples)
    wanted = derivative(value, leaves, create_graph=True)
    loss, gradients, statistics = got
    mend = "compare with the tape; `return None` leaves it to that"
    if abs(float(loss) - float(value)) > EXACT * max(1.0, abs(float(value))):
        yield found(f"a loss of loss_gradient of {float(value):.9g}", f"{float(loss):.9g}", mend)
    if set(gradients) != set(wrt) or distance(gradients, wanted) > EXACT:
        yield found("gradients of loss_gradient as of the tape", "others", mend)
        return
    if set(statistics) != set(net.network.norm_layers):
        yield found("statistics of loss_gradient of each norm layer", sorted(statistics), mend)
    along = random_direction(wanted, SEED)
    dotted = [dot(first, along) for first in (gradients, wanted)]
    try:
        seconds = [derivative(value, leaves, retain_graph=True) for value in dotted]
    except RuntimeError:
        yield found("gradients of loss_gradient that can be differentiated", "constants", mend)
        return
    if distance(*seconds) > EXACT:
        yield found("second derivatives through loss_gradient as of the tape", "others", mend)


CHECKS = (gradient, second_gradient, vmap, loss_gradient)
