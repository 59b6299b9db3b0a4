"""The order-free sum: the right mean, at the ends of the number line and beside bad chunks too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch import Tensor

from metadist.compute import order_free_sum
from metadist.compute.collectives import Group, Solo
from metadist.compute.order_free_sum import Layout, StepSum, reduce_step
from metadist.compute.strategies import ChunkResult
from tests.numerics.chunks import (
    CPU,
    SHAPES,
    STATISTICS,
    alone,
    assert_same,
    make_chunk,
    make_layout,
    random_chunks,
    same,
    spoil,
)
from tests.numerics.conftest import RunGroup
from tests.numerics.gloo_worker import reduced
from tests.numerics.reference import CLEARLY_OTHER, CLOSED_FORM

LARGEST = {kind: torch.finfo(kind).max for kind in (torch.float32, torch.float64)}
SMALLEST = {torch.float32: 2.0**-149, torch.float64: 2.0**-1074}
BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def constant_chunks(layout: Layout, values: Sequence[float], dtype: torch.dtype):
    def fill(value: float) -> Callable[[str, tuple[int, ...]], Tensor]:
        return lambda name, shape: torch.full(shape, value, dtype=dtype)

    return [make_chunk(layout, i, fill(value)) for i, value in enumerate(values)]


def true_mean(results: Sequence[ChunkResult], tasks: int, what: str, name: str) -> Tensor:
    """Exact rational arithmetic, rounded once."""
    columns = [
        getattr(r, what)[name].double().reshape(-1).tolist() for r in results if r.finite.all()
    ]
    sums = [float(sum(map(Fraction, column)) / tasks) for column in zip(*columns, strict=True)]
    return torch.tensor(sums, dtype=torch.float64).reshape({**SHAPES, **STATISTICS}[name])


def peak(results: Sequence[ChunkResult], what: str, name: str) -> float:
    return max(
        float(getattr(r, what)[name].double().abs().max()) for r in results if r.finite.all()
    )


def check_mean(results: Sequence[ChunkResult], step: StepSum, tasks: int) -> None:
    """Right to 1e-12 of the largest number of a tensor: what a fixed scale can promise."""
    for what, names in (("gradients", SHAPES), ("statistics", STATISTICS)):
        assert list(getattr(step, what)) == list(names)
        for name in names:
            wanted = true_mean(results, tasks, what, name)
            error = float((getattr(step, what)[name] - wanted).abs().max())
            assert error <= CLOSED_FORM * peak(results, what, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("tasks", "chunk"), [(1, 1), (7, 1), (32, 1), (7, 3), (6, 4)])
def test_the_mean_is_right(tasks: int, chunk: int, dtype: torch.dtype):
    layout = make_layout(tasks, chunk)
    results = random_chunks(layout, dtype)
    step = alone(layout, results)
    assert step.good_tasks == tasks
    check_mean(results, step, tasks)


def test_rounding_favours_no_sign():
    layout = make_layout(tasks=7)
    results = random_chunks(layout)
    negative = [replace(r, gradients={n: -g for n, g in r.gradients.items()}) for r in results]
    wanted = alone(layout, results).gradients
    for name, value in alone(layout, negative).gradients.items():
        assert torch.equal(value, -wanted[name])


def test_uneven_shares_are_weighted_by_their_tasks(run_group: RunGroup):
    layout = make_layout(tasks=5)
    results = random_chunks(layout)
    shares = [layout.share(rank, 3) for rank in range(3)]
    assert len({last - first for first, last in shares}) > 1, "the shares must be uneven"
    for step in run_group(3, partial(reduced, layout, results)):
        check_mean(results, step, 5)
    # The mean of the workers' means is something else.
    means = [torch.stack([r.gradients["b"] for r in results[a:b]]).mean(0) for a, b in shares]
    unweighted, wanted = torch.stack(means).mean(0), true_mean(results, 5, "gradients", "b")
    assert float((unweighted - wanted).norm() / wanted.norm()) > CLEARLY_OTHER


def test_fast_is_the_mean_too(run_group: RunGroup):
    layout = replace(make_layout(tasks=7), dtype=torch.float64)
    results = random_chunks(layout)

    def work(group: Group) -> StepSum:
        first, last = layout.share(group.rank, group.size)
        return reduce_step(results[first:last], first, layout, group, CPU, "fast")

    for step in [reduce_step(results, 0, layout, Solo(), CPU, "fast"), *run_group(3, work)]:
        check_mean(results, step, 7)
        assert same(step.metrics, alone(layout, results).metrics)


# --- the ends of the number line ------------------------------------------------------------------


def test_all_zero(run_group: RunGroup):
    layout = make_layout(tasks=3)
    results = constant_chunks(layout, [0.0, -0.0, 0.0], torch.float32)
    wanted = alone(layout, results)
    for value in [*wanted.gradients.values(), *wanted.statistics.values()]:
        assert not value.any()
    assert wanted.good_tasks == 3
    for step in run_group(2, partial(reduced, layout, results)):
        assert_same(step, wanted)


def test_one_tensor_of_zeros_beside_others():
    layout = make_layout(tasks=3)
    results = random_chunks(layout)
    for result in results:
        result.gradients["b"].zero_()
    step = alone(layout, results)
    assert not step.gradients["b"].any()
    check_mean(results, step, 3)


@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 7, 8, 31, 64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_full_scale_of_one_sign_does_not_overflow(dtype: torch.dtype, sign: float, tasks: int):
    largest = sign * LARGEST[dtype]
    layout = make_layout(tasks)
    results = constant_chunks(layout, [largest] * tasks, dtype)
    step = alone(layout, results)
    assert step.good_tasks == tasks
    for value in step.gradients.values():
        assert bool(torch.isfinite(value).all())
        torch.testing.assert_close(value / largest, torch.ones_like(value), rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_full_scale_over_workers(run_group: RunGroup, dtype: torch.dtype, size: int):
    layout = make_layout(tasks=5)
    results = constant_chunks(layout, [LARGEST[dtype]] * 5, dtype)
    wanted = alone(layout, results)
    for step in run_group(size, partial(reduced, layout, results)):
        assert_same(step, wanted)
        assert all(bool((g > 0).all()) for g in step.gradients.values())


def test_full_scale_would_overflow_without_room_for_the_sum(monkeypatch: pytest.MonkeyPatch):
    original = order_free_sum._exponents
    monkeypatch.setattr(order_free_sum, "_exponents", lambda peaks, chunks: original(peaks, 1))
    layout = make_layout(tasks=8)
    step = alone(layout, constant_chunks(layout, [LARGEST[torch.float32]] * 8, torch.float32))
    assert not all(bool((g > 0).all()) for g in step.gradients.values())


def test_subnormal_float32_is_exact():
    """Every float32, the smallest included, is far above the finest scale."""
    smallest = SMALLEST[torch.float32]
    layout = make_layout(tasks=3)
    step = alone(
        layout, constant_chunks(layout, [smallest, 2 * smallest, 3 * smallest], torch.float32)
    )
    for value in step.gradients.values():
        assert torch.equal(value, torch.full_like(value, 2 * smallest))


def test_subnormal_float64_is_kept_to_the_finest_scale(run_group: RunGroup):
    """The scale ends at 2^1000: what lies below 2^-1001 becomes zero, on every worker alike."""
    finest = 2.0**-1000
    values = [SMALLEST[torch.float64], 2.0**-1022, 7 * finest]
    layout = make_layout(tasks=3)
    for chosen in (values, values[:1] * 3, values[1:2] * 3):
        results = constant_chunks(layout, chosen, torch.float64)
        wanted = alone(layout, results)
        exact = float(sum(map(Fraction, chosen)) / 3)
        for value in wanted.gradients.values():
            assert bool((value - exact).abs().max() <= finest)
        for size in (2, 3):
            for step in run_group(size, partial(reduced, layout, results)):
                assert_same(step, wanted)


def test_large_and_small_together(run_group: RunGroup):
    layout = make_layout(tasks=6)
    values = [LARGEST[torch.float32], 1.0, 1e-30, -LARGEST[torch.float32], -1e-30, 1.0]
    results = constant_chunks(layout, values, torch.float32)
    wanted = alone(layout, results)
    check_mean(results, wanted, 6)
    for step in run_group(4, partial(reduced, layout, results)):
        assert_same(step, wanted)


# --- chunks that are not finite -------------------------------------------------------------------


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("chunk", [1, 2], ids=["chunk 1", "chunk 2, short last"])
@pytest.mark.parametrize("bad", range(3), ids="rank {}".format)
def test_a_bad_chunk_is_dropped_on_whichever_rank(
    run_group: RunGroup, bad: int, chunk: int, value: float
):
    layout = make_layout(tasks=5 if chunk == 2 else 3, chunk=chunk)
    assert [layout.share(rank, 3) for rank in range(3)] == [(0, 1), (1, 2), (2, 3)]
    results = random_chunks(layout)
    results[bad] = spoil(results[bad], value)
    start, stop = layout.bounds(bad)
    wanted = alone(layout, results)
    assert wanted.good.tolist() == [not start <= i < stop for i in range(layout.tasks)]
    assert wanted.good_tasks == layout.tasks - (stop - start)
    check_mean(results, wanted, wanted.good_tasks)
    for name, values in wanted.metrics.items():
        assert bool(torch.isfinite(values).sum() == wanted.good_tasks), name
    for step in run_group(3, partial(reduced, layout, results)):
        assert_same(step, wanted)


def test_the_unweighted_mean_over_all_tasks_would_be_noticed():
    layout = make_layout(tasks=3)
    results = random_chunks(layout)
    results[1] = spoil(results[1], math.nan)
    with pytest.raises(AssertionError):
        check_mean(results, alone(layout, results), 3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_good_chunk_gives_no_gradient(run_group: RunGroup, size: int):
    layout = make_layout(tasks=3)
    results = [spoil(r, math.nan) for r in random_chunks(layout)]
    for step in run_group(size, partial(reduced, layout, results)):
        assert step.gradients == {}
        assert step.statistics == {}
        assert step.good_tasks == 0
        assert step.good.tolist() == [False] * 3
