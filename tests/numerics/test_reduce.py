"""The order-free sum: one answer, bit for bit, however the chunks are spread over workers."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from metadist.compute import order_free_sum
from metadist.compute.order_free_sum import Layout
from metadist.compute.strategies import ChunkResult
from tests.numerics import gloo_worker
from tests.numerics.chunks import (
    alone,
    assert_same,
    make_chunk,
    make_layout,
    random_chunks,
    same,
    spoil,
)
from tests.numerics.conftest import RunGroup
from tests.numerics.gloo_worker import outcome, reduced


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

        made = make_chunk(layout, chunk, fill)
        good = draw(st.booleans())
        results.append(replace(made, finite=torch.full_like(made.finite, good)))
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
    monkeypatch.setattr(order_free_sum, "_exact", order_free_sum._fast)
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
    monkeypatch.setattr("metadist.contracts.thread_group._Worker.max_", lambda self, tensor: None)
    for step in run_group(3, partial(reduced, layout, results)):
        assert not same(outcome(step), outcome(wanted))


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


@pytest.mark.slow
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
