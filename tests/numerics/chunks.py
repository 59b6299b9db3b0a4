"""Chunks of random numbers, and what one process makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from metadist.compute.collectives import Solo
from metadist.compute.order_free_sum import Layout, StepSum, reduce_step
from metadist.compute.strategies import ChunkResult
from metadist.keys import Key
from tests.numerics.gloo_worker import outcome

CPU = torch.device("cpu")
SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 2), "b": (4,), "c": ()}
STATISTICS: dict[str, tuple[int, ...]] = {"mean": (2, 3)}


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
        finite=torch.ones(stop - start, dtype=torch.bool),
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


def spoil(result: ChunkResult, value: float) -> ChunkResult:
    gradients = {n: g.clone() for n, g in result.gradients.items()}
    gradients["a"][0, 1] = value
    statistics = {n: torch.full_like(s, value) for n, s in result.statistics.items()}
    metrics = {n: torch.full_like(m, value) for n, m in result.metrics.items()}
    return ChunkResult(gradients, statistics, metrics, torch.zeros_like(result.finite))


def alone(layout: Layout, results: Sequence[ChunkResult]) -> StepSum:
    return reduce_step(results, 0, layout, Solo(), CPU)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


def assert_same(a: StepSum, b: StepSum) -> None:
    assert same(outcome(a), outcome(b))
