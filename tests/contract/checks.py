"""What a gradient has to satisfy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from metadist.compute.strategies import ChunkResult
from metadist.contracts.differences import difference, length, slope
from metadist.keys import Key
from metadist.tasks import Params
from tests.contract.setting import Setting
from tests.numerics.definitions import DEFINITIONS
from tests.numerics.reference import DIFFERENCES, EXACT, OTHER, distance


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


def directions(params: Params, key: Key) -> Iterator[Params]:
    """Random unit directions in the space of all parameters."""
    for attempt in range(30):
        free = {
            n: key.fold("direction", attempt, n).normal(p.shape, torch.float64)
            for n, p in params.items()
        }
        size = length(free)
        yield {n: d / size for n, d in free.items()}


def check_differences(setting: Setting, index: int = 1, wanted: int = 2) -> None:
    """The engine's gradient of one task is the central difference of its loss."""
    one = setting.only(index)
    gradients = one.loop().gradients
    size = length(gradients)
    checked = 0
    for direction in directions(one.params, Key.of("differences")):
        got = difference(one.loss, one.params, direction)
        if got is None:
            continue
        assert abs(slope(gradients, direction) - got) <= DIFFERENCES * size
        checked += 1
        if checked == wanted:
            return
    pytest.fail(f"only {checked} of {wanted} directions crossed no kink")


def check_not_exact(setting: Setting, index: int = 1) -> None:
    """The engine's gradient of one task is clearly not the derivative of its loss.

    Looked at along its own part in each tensor: there an exact gradient is its own length. A part
    may be a small one of the whole, as that of a choice, and counts if differences can tell it.
    """
    one = setting.only(index)
    gradients = one.loop().gradients
    size = length(gradients)
    zeros = {n: torch.zeros_like(p) for n, p in one.params.items()}
    for name in reversed(gradients):
        if gradients[name].norm() == 0:
            continue
        direction = {**zeros, name: gradients[name] / gradients[name].norm()}
        got = difference(one.loss, one.params, direction)
        if got is None:
            continue
        own = slope(gradients, direction)
        if abs(own - got) > max(OTHER * own, 10 * DIFFERENCES * size):
            return
    raise AssertionError("the gradient is that of the loss itself; is the estimator exact?")
