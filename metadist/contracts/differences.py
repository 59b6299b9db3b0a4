"""Central differences, and on which side of every kink a computation ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metadist.keys import Key
from metadist.tasks import Params

#: Steps along unit directions, and what differences differ by, relative to the gradient's length.
EPS = 1e-6
TOLERANCE = 1e-5
#: What is clearly another gradient.
OTHER = 1e-3
#: How far two ways to compute the same may lie apart, relative.
EXACT = 1e-9

aten = torch.ops.aten


class Kinks(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records on which side of every kink, jump or choice a computation ran."""

    #: The side of each entry, from what an operation got and what came out.
    SIDES: ClassVar[dict[Any, Callable[..., Tensor]]] = {
        aten.relu.default: lambda out, x: x > 0,
        aten.leaky_relu.default: lambda out, x, *rest: x > 0,
        aten.abs.default: lambda out, x: x.sign().double(),
        aten.sign.default: lambda out, x: out,
        aten.clamp.default: lambda out, x, *rest: x == out,
        aten.clamp_min.default: lambda out, x, *rest: x == out,
        aten.clamp_max.default: lambda out, x, *rest: x == out,
        aten.maximum.default: lambda out, x, y: x > y,
        aten.minimum.default: lambda out, x, y: x > y,
        aten.round.default: lambda out, x: out,
        aten.floor.default: lambda out, x: out,
        aten.amax.default: lambda out, x, dim=(), keepdim=False: x == x.amax(dim, True),
        aten.amin.default: lambda out, x, dim=(), keepdim=False: x == x.amin(dim, True),
        # Among equal entries (all cut off by ReLU) any may be chosen, and none has a slope.
        aten.max_pool2d_with_indices.default: lambda out, *rest: out[1].where(out[0] > 0, -1),
    }

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sides: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        side = self.SIDES.get(func)
        if side is not None:
            self.sides.append(side(result, *args, **(kwargs or {})))
            return result
        # Comparisons, and the places that argmax, max, sort or topk choose.
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.int64):
                self.sides.append(part.clone())
        return result


def _sided(loss: Callable[[Params], Tensor], params: Params) -> tuple[float, list[Tensor]]:
    with torch.no_grad(), Kinks() as kinks:
        value = float(loss(params))
    return value, kinks.sides


def _same_side(here: Tensor, there: Tensor) -> bool:
    """Whether no kink lies between; the two slopes of |x| at 0 cancel in a central difference."""
    if here.shape != there.shape:
        return False
    if here.is_floating_point():
        there = there.where(here != 0, here)
    return torch.equal(here, there)


def difference(loss: Callable[[Params], Tensor], params: Params, direction: Params) -> float | None:
    """The central difference of a loss along a direction; None if a kink lies between."""
    _, here = _sided(loss, params)
    values = []
    for sign in (EPS, -EPS):
        moved = {name: p + sign * direction[name] for name, p in params.items()}
        value, there = _sided(loss, moved)
        if len(here) != len(there) or not all(map(_same_side, here, there)):
            return None
        values.append(value)
    return (values[0] - values[1]) / (2 * EPS)


def leaves_of(params: Params) -> Params:
    """The same numbers, to take gradients by."""
    return {name: p.detach().requires_grad_() for name, p in params.items()}


def derivative(value: Tensor, leaves: Params, **how: Any) -> Params:
    """The gradient of a value on the tape."""
    tensors = torch.autograd.grad(value, [*leaves.values()], materialize_grads=True, **how)
    return dict(zip(leaves, tensors, strict=True))


def random_direction(params: Params, key: Key) -> Params:
    """Standard normal numbers for each parameter."""
    return {n: key.fold("along", n).normal(p.shape, torch.float64) for n, p in params.items()}


def dot(one: Params, other: Params) -> Tensor:
    """The sum of all products, a scalar."""
    return torch.stack([(t * other[name]).sum() for name, t in one.items()]).sum()


def slope(gradients: Params, direction: Params) -> float:
    """What a gradient says of a direction."""
    return float(dot(gradients, direction))


def length(gradients: Params) -> float:
    """Of a gradient."""
    return float(torch.stack([g.norm() for g in gradients.values()]).norm())


def directions(gradients: Params, key: Key) -> Iterator[Params]:
    """Unit directions, to hold a gradient against differences.

    First such as have an equal part in each tensor, along the gradient or against it, so that one
    that is wrong in any tensor is found; then one in each tensor, where those cross kinks.
    """
    own = {n: g / g.norm() for n, g in gradients.items() if g.norm() > 0}
    zeros = {name: torch.zeros_like(g) for name, g in gradients.items()}
    for attempt in range(8):
        signs = {n: key.fold("sign", attempt, n).uniform((), torch.float64) < 0.5 for n in own}
        parts = {n: torch.where(signs[n], -d, d) / len(own) ** 0.5 for n, d in own.items()}
        yield {**zeros, **parts}
    for name in reversed(own):
        yield {**zeros, name: own[name]}


@dataclass(frozen=True)
class Slopes:
    """A gradient beside central differences.

    Attributes:
        tried, checked: directions, and those of them without a kink.
        worst: how far the two lie apart at most, relative; ``said`` and ``measured`` there.
    """

    tried: int
    checked: int
    worst: float
    said: float
    measured: float


def slopes(
    value: Callable[[Params], Tensor], params: Params, gradients: Params, key: Key, wanted: int
) -> Slopes:
    """A gradient of a value along as many directions as are wanted that cross no kink."""
    size, tried, checked, worst = max(length(gradients), 1e-12), 0, 0, (0.0, 0.0, 0.0)
    for direction in directions(gradients, key):
        tried += 1
        measured = difference(value, params, direction)
        if measured is not None:
            said = slope(gradients, direction)
            checked += 1
            worst = max(worst, (abs(said - measured) / size, said, measured))
        if checked == wanted:
            break
    return Slopes(tried, checked, *worst)


def distance(got: Params, wanted: Params) -> float:
    """How far named tensors lie apart, relative to the largest of those that are wanted."""
    size = max((float(t.abs().max()) for t in wanted.values() if t.numel()), default=0.0)
    apart = [float((got[n] - t).abs().max()) for n, t in wanted.items() if t.numel()]
    # A NaN is far from everything.
    worst = max((a if a == a else float("inf") for a in apart), default=0.0)
    return worst / max(size, 1e-12)
