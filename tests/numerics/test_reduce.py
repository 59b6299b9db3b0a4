"""The order-free sum: one answer, bit for bit, however the chunks are spread over workers."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from metadist.engine import reduce
from metadist.engine.gradients import ChunkResult
from metadist.engine.group import Group, Solo
from metadist.engine.reduce import Layout, StepSum, reduce_step
from metadist.keys import Key
from tests.numerics import gloo_worker
from tests.numerics.conftest import RunGroup
from tests.numerics.gloo_worker import outcome, reduced
from tests.numerics.reference import CLEARLY_OTHER, CLOSED_FORM

CPU = torch.device("cpu")
SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 2), "b": (4,), "c": ()}
STATISTICS: dict[str, tuple[int, ...]] = {"mean": (2, 3)}
LARGEST = {kind: torch.finfo(kind).max for kind in (torch.float32, torch.float64)}
SMALLEST = {torch.float32: 2.0**-149, torch.float64: 2.0**-1074}


def make_layout(tasks: int, chunk: int = 1) -> Layout:
    return Layout(SHAPES, STATISTICS, ("loss", "accuracy"), tasks, chunk)


def make_chunk(layout: Layout, chunk: int, fill: Callable[[str, tuple[int, ...]], Tensor]):
    start, stop = layout.bounds(chunk)
    return ChunkResult(
        gradients={n: fill(n, s) for n, s in SHAPES.items()},
        statistics={n: fill(n, s).double() for n, s in STATISTICS.items()},
        metrics={
            n: Key.of("metric", n, chunk).normal((stop - start,), torch.float64)
            for n in layout.metrics
        },
        finite=True,
    )


def random_chunks(layout: Layout, dtype: torch.dtype = torch.float32) -> list[ChunkResult]:
    """Chunks whose numbers span fifteen orders of magnitude."""

    def fill(chunk: int) -> Callable[[str, tuple[int, ...]], Tensor]:
        def one(name: str, shape: tuple[int, ...]) -> Tensor:
            key = Key.of("chunk", chunk, name)
            size = 10.0 ** (15 * key.fold("size").uniform(shape, torch.float64) - 10)
            return (size * key.normal(shape, torch.float64)).to(dtype)

        return one

    return [make_chunk(layout, i, fill(i)) for i in range(layout.chunks)]


def constant_chunks(layout: Layout, values: Sequence[float], dtype: torch.dtype):
    def fill(value: float) -> Callable[[str, tuple[int, ...]], Tensor]:
        return lambda name, shape: torch.full(shape, value, dtype=dtype)

    return [make_chunk(layout, i, fill(value)) for i, value in enumerate(values)]


def alone(layout: Layout, results: Sequence[ChunkResult]) -> StepSum:
    return reduce_step(results, 0, layout, Solo(), CPU)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


def assert_same(a: StepSum, b: StepSum) -> None:
    assert same(outcome(a), outcome(b))


def true_mean(results: Sequence[ChunkResult], tasks: int, what: str, name: str) -> Tensor:
    """Exact rational arithmetic, rounded once."""
    columns = [getattr(r, what)[name].double().reshape(-1).tolist() for r in results if r.finite]
    sums = [float(sum(map(Fraction, column)) / tasks) for column in zip(*columns, strict=True)]
    return torch.tensor(sums, dtype=torch.float64).reshape({**SHAPES, **STATISTICS}[name])


def peak(results: Sequence[ChunkResult], what: str, name: str) -> float:
    return max(float(getattr(r, what)[name].double().abs().max()) for r in results if r.finite)


def check_mean(results: Sequence[ChunkResult], step: StepSum, tasks: int) -> None:
    """Right to 1e-12 of the largest number of a tensor: what a fixed scale can promise."""
    for what, names in (("gradients", SHAPES), ("statistics", STATISTICS)):
        assert list(getattr(step, what)) == list(names)
        for name in names:
            wanted = true_mean(results, tasks, what, name)
            error = float((getattr(step, what)[name] - wanted).abs().max())
            assert error <= CLOSED_FORM * peak(results, what, name)


# --- one answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3], ids=["chunk 1", "chunk 3, short last"])
@pytest.mark.parametrize("size", range(1, 9))
def test_the_number_of_workers_changes_no_bit(run_group: RunGroup, size: int, chunk: int):
    layout = make_layout(tasks=7, chunk=chunk)
    results = random_chunks(layout)
    wanted = alone(layout, results)
    for step in run_group(size, partial(reduced, layout, results)):
        assert_same(step, wanted)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_order_of_workers_changes_no_bit(run_group: RunGroup, order: tuple[int, ...]):
    layout = make_layout(tasks=6)
    results = random_chunks(layout)
    wanted = alone(layout, results)
    for step in run_group(3, partial(reduced, layout, results), order):
        assert_same(step, wanted)


def test_the_order_of_tasks_changes_no_bit_of_the_mean():
    layout = make_layout(tasks=5)
    results = random_chunks(layout)
    wanted = alone(layout, results)
    for order in itertools.permutations(range(5)):
        step = alone(layout, [results[i] for i in order])
        for what in ("gradients", "statistics"):
            assert same(getattr(step, what), getattr(wanted, what))


numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)


@st.composite
def steps(draw: st.DrawFn) -> tuple[Layout, list[ChunkResult], int]:
    layout = make_layout(draw(st.integers(1, 6)), draw(st.integers(1, 3)))
    results = []
    for chunk in range(layout.chunks):
        values = iter(draw(st.lists(numbers, min_size=17, max_size=17)))

        def fill(name: str, shape: tuple[int, ...], values=values) -> Tensor:
            flat = [next(values) for _ in range(math.prod(shape))]
            return torch.tensor(flat, dtype=torch.float64).reshape(shape)

        results.append(replace(make_chunk(layout, chunk, fill), finite=draw(st.booleans())))
    return layout, results, draw(st.integers(1, 8))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps())
def test_any_numbers_any_partition(
    run_group: RunGroup, step: tuple[Layout, list[ChunkResult], int]
):
    layout, results, size = step
    wanted = alone(layout, results)
    for name, value in {**wanted.gradients, **wanted.statistics}.items():
        assert bool(torch.isfinite(value).all()), name
    for got in run_group(size, partial(reduced, layout, results)):
        assert_same(got, wanted)


def test_a_float_sum_would_be_noticed(run_group: RunGroup, monkeypatch: pytest.MonkeyPatch):
    """The plain reduction is not order-free: the checks above are able to fail."""
    layout = make_layout(tasks=7)
    results = random_chunks(layout)
    monkeypatch.setattr(reduce, "_exact", reduce._fast)
    wanted = alone(layout, results)
    differing = [
        size
        for size in range(2, 9)
        for step in run_group(size, partial(reduced, layout, results))
        if not same(outcome(step), outcome(wanted))
    ]
    assert differing


def test_a_scale_of_each_workers_own_would_be_noticed(
    run_group: RunGroup, monkeypatch: pytest.MonkeyPatch
):
    layout = make_layout(tasks=7)
    results = random_chunks(layout)
    wanted = alone(layout, results)
    # Every worker takes the exponent of its own largest number: MAX is not reduced.
    monkeypatch.setattr("tests.numerics.conftest._Simulated.max_", lambda self, tensor: None)
    for step in run_group(3, partial(reduced, layout, results)):
        assert not same(outcome(step), outcome(wanted))


# --- the right answer -----------------------------------------------------------------------------


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


def test_shares_cover_every_chunk_once():
    for tasks, chunk, size in itertools.product(range(1, 10), (1, 2, 4), range(1, 9)):
        layout = make_layout(tasks, chunk)
        shares = [layout.share(rank, size) for rank in range(size)]
        assert [c for first, last in shares for c in range(first, last)] == list(
            range(layout.chunks)
        )
        assert max(b - a for a, b in shares) - min(b - a for a, b in shares) <= 1
        bounds = [layout.bounds(c) for c in range(layout.chunks)]
        assert [t for first, last in bounds for t in range(first, last)] == list(range(tasks))


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
    original = reduce._exponents
    monkeypatch.setattr(reduce, "_exponents", lambda peaks, chunks: original(peaks, 1))
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

BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def spoil(result: ChunkResult, value: float) -> ChunkResult:
    gradients = {n: g.clone() for n, g in result.gradients.items()}
    gradients["a"][0, 1] = value
    statistics = {n: torch.full_like(s, value) for n, s in result.statistics.items()}
    metrics = {n: torch.full_like(m, value) for n, m in result.metrics.items()}
    return ChunkResult(gradients, statistics, metrics, finite=False)


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
    assert wanted.good.tolist() == [i != bad for i in range(3)]
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


# --- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_metrics_arrive_bit_for_bit(run_group: RunGroup, size: int):
    patterns = torch.tensor(
        [
            0x7FF8_0000_0000_0001,  # a NaN with a payload
            -0x0007_FFFF_FFFF_FFFF - 1,  # another, negative
            -0x8000_0000_0000_0000,  # -0.0
            1,  # the smallest subnormal
            0x7FF0_0000_0000_0000,  # infinity
            0x3FD5_5555_5555_5555,  # a third
            -1,  # a NaN of ones
        ],
        dtype=torch.int64,
    )
    layout = make_layout(tasks=7, chunk=2)
    results = [
        replace(
            result,
            metrics={
                "loss": patterns[slice(*layout.bounds(i))].view(torch.float64),
                "accuracy": patterns.flip(0)[slice(*layout.bounds(i))].view(torch.float64),
            },
        )
        for i, result in enumerate(random_chunks(layout))
    ]
    for step in run_group(size, partial(reduced, layout, results)):
        assert torch.equal(step.metrics["loss"].view(torch.int64), patterns)
        assert torch.equal(step.metrics["accuracy"].view(torch.int64), patterns.flip(0))


# --- real processes -------------------------------------------------------------------------------


@pytest.mark.distributed
def test_two_gloo_processes_give_the_bits_of_one(tmp_path: Path):
    layout = make_layout(tasks=7, chunk=2)
    results = random_chunks(layout)
    results[2] = spoil(results[2], math.nan)
    chunks = tmp_path / "chunks.safetensors"
    safetensors.torch.save_file(gloo_worker.flat(layout, results), chunks)
    outs = [tmp_path / f"out-{rank}.safetensors" for rank in range(2)]
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                gloo_worker.__file__,
                str(tmp_path / "rendezvous"),
                str(rank),
                "2",
                str(chunks),
                str(out),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]
    try:
        said = [worker.communicate(timeout=100)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], said
    wanted = outcome(alone(layout, results))
    for out in outs:
        assert same(safetensors.torch.load_file(out), wanted)
