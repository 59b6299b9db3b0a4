"""What a gradient has to satisfy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metadist.compute.strategies import ChunkResult
from metadist.keys import Key
from metadist.tasks import Params
from tests.contract.setting import Setting
from tests.numerics.definitions import DEFINITIONS
from tests.numerics.reference import DIFFERENCES, EPS, EXACT, OTHER, distance

aten = torch.ops.aten


def check_definition(setting: Setting, got: ChunkResult) -> None:
    """Gradient and losses are those of the definition; without one, of ``loss`` on the tape."""
    assert bool(got.finite.all())
    if setting.case.algorithm in DEFINITIONS:
        losses, gradients = setting.defined
        check_losses(setting, got, losses)
        assert distance(got.gradients, gradients) <= EXACT
    elif setting.algorithm.estimator == "exact":
        assert distance(got.gradients, setting.exact) <= EXACT
    else:
        pytest.fail(
            f"{setting.case.algorithm} declares the estimator {setting.algorithm.estimator!r}: "
            "write its definition a second time in a DEFINITIONS of tests/numerics"
        )


def check_losses(setting: Setting, got: ChunkResult, wanted: Tensor) -> None:
    """What is differentiated has the value that the definition says; where nothing is, what is
    reported."""
    losses = got.metrics["loss"]
    if setting.algorithm.estimator != "pseudo":
        with torch.no_grad():
            losses = torch.stack([setting.loss(setting.params, i) for i in range(len(setting))])
    torch.testing.assert_close(losses, wanted, rtol=EXACT, atol=EXACT)


def check_same(got: list[ChunkResult], wanted: ChunkResult) -> None:
    """Chunks of a step add up to the same step taken task by task."""
    for what in ("gradients", "statistics"):
        parts = [getattr(chunk, what) for chunk in got]
        names = list(getattr(wanted, what))
        assert all(list(part) == names for part in parts)
        if names:
            added = {n: torch.stack([p[n].double() for p in parts]).sum(0) for n in names}
            assert distance(added, getattr(wanted, what)) <= EXACT
    assert all(set(chunk.metrics) == set(wanted.metrics) for chunk in got)
    for name, values in wanted.metrics.items():
        together = torch.cat([chunk.metrics[name] for chunk in got])
        torch.testing.assert_close(together, values, rtol=EXACT, atol=EXACT)


def check_everything(setting: Setting) -> None:
    """All of this module."""
    looped = setting.looped
    check_definition(setting, looped)
    (chunk,) = setting.vmap(len(setting))
    check_definition(setting, chunk)
    check_same([chunk], looped)
    check_same(setting.vmap(2), looped)
    check_estimator(setting)


def check_estimator(setting: Setting) -> None:
    """The gradient is the derivative of the loss, or clearly not, as the algorithm declares."""
    if setting.algorithm.estimator == "exact":
        check_differences(setting)
    elif setting.algorithm.estimator != "annealed":
        check_not_exact(setting)


# --- central differences --------------------------------------------------------------------------


class Kinks(TorchDispatchMode):
    """Records on which side of every kink, jump or choice a computation ran."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: list[Tensor] = []

    #: The side of each entry, from what an operation got and what came out.
    SIDES: dict[Any, Callable[..., Tensor]] = {  # noqa: RUF012 - it is never changed
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

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        side = self.SIDES.get(func)
        if side is not None:
            self.sides.append(side(result, *args, **(kwargs or {})))
        else:
            # Comparisons, and the places that argmax, max, sort or topk choose.
            parts = result if isinstance(result, tuple | list) else (result,)
            discrete = (torch.bool, torch.int64)
            self.sides += [
                part.clone()
                for part in parts
                if isinstance(part, Tensor) and part.dtype in discrete
            ]
        return result


def sided_loss(setting: Setting, params: Params) -> tuple[float, list[Tensor]]:
    """The loss of the only task, and on which sides it was computed."""
    with torch.no_grad(), Kinks() as kinks:
        value = float(setting.loss(params))
    return value, kinks.sides


def same_side(here: Tensor, there: Tensor) -> bool:
    """Whether no kink lies between.

    The two slopes of |x| at 0 cancel in a central difference, as in the derivative.
    """
    if here.is_floating_point():
        there = there.where(here != 0, here)
    return torch.equal(here, there)


def difference(setting: Setting, direction: Params) -> float | None:
    """The central difference of the only task's loss; None if a kink lies between."""
    _, here = sided_loss(setting, setting.params)
    ends = [
        sided_loss(setting, {n: p + s * direction[n] for n, p in setting.params.items()})
        for s in (EPS, -EPS)
    ]
    for _, there in ends:
        if not all(map(same_side, here, there)):
            return None
    return (ends[0][0] - ends[1][0]) / (2 * EPS)


def slope(gradients: Params, direction: Params) -> float:
    """What a gradient says of a direction."""
    return sum(float((g * direction[n]).sum()) for n, g in gradients.items())


def norm(gradients: Params) -> float:
    """The length of a gradient."""
    return float(torch.stack([g.norm() for g in gradients.values()]).norm())


def directions(params: Params, key: Key) -> Iterator[Params]:
    """Random unit directions in the space of all parameters."""
    for attempt in range(30):
        free = {
            n: key.fold("direction", attempt, n).normal(p.shape, torch.float64)
            for n, p in params.items()
        }
        length = norm(free)
        yield {n: d / length for n, d in free.items()}


def check_differences(setting: Setting, index: int = 1, wanted: int = 2) -> None:
    """The engine's gradient of one task is the central difference of its loss."""
    one = setting.only(index)
    gradients = one.loop().gradients
    length = norm(gradients)
    checked = 0
    for direction in directions(one.params, Key.of("differences")):
        got = difference(one, direction)
        if got is None:
            continue
        assert abs(slope(gradients, direction) - got) <= DIFFERENCES * length
        checked += 1
        if checked == wanted:
            return
    pytest.fail(f"only {checked} of {wanted} directions crossed no kink")


def check_not_exact(setting: Setting, index: int = 1) -> None:
    """The engine's gradient of one task is clearly not the derivative of its loss.

    Looked at along its own part in each tensor: there an exact gradient is its own length.
    """
    one = setting.only(index)
    gradients = one.loop().gradients
    length = norm(gradients)
    zeros = {n: torch.zeros_like(p) for n, p in one.params.items()}
    for name in reversed(gradients):
        if gradients[name].norm() == 0:
            continue
        direction = {**zeros, name: gradients[name] / gradients[name].norm()}
        got = difference(one, direction)
        if got is not None and abs(slope(gradients, direction) - got) > OTHER * length:
            return
    raise AssertionError("the gradient is that of the loss itself; is the estimator exact?")
