"""Sums over chunks and workers whose bits do not depend on who computed what.

Adding floats depends on the order; adding integers does not. Per tensor the largest magnitude over
all chunks fixes a power of two that leaves room for the sum in 62 bits; every chunk's numbers are
scaled by it, rounded to int64 and added; one division at the end gives the mean in float64.
Metrics travel in the same bucket: each task's slot is written by one worker and is zero on the
others, so the integer sum of the bit patterns is the pattern.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metadist.compute.collectives import Group
from metadist.compute.strategies.chunk import ChunkResult

_BITS = 62
_LARGEST_SHIFT = 1000


@dataclass(frozen=True)
class Layout:
    """Names and shapes of what is summed in every step, and how a step is cut into chunks.

    Attributes:
        gradients, statistics: shapes by name.
        metrics: names of the per-task metrics.
        tasks: tasks in a step; ``chunk`` of them form a chunk, the last may be shorter.
        dtype: what ``fast`` reduction adds in.
    """

    gradients: dict[str, tuple[int, ...]]
    statistics: dict[str, tuple[int, ...]]
    metrics: tuple[str, ...]
    tasks: int
    chunk: int
    dtype: torch.dtype = torch.float32

    @property
    def chunks(self) -> int:
        """Chunks in a step."""
        return -(-self.tasks // self.chunk)

    @property
    def sizes(self) -> list[int]:
        """Numbers in each gradient and statistic, in bucket order."""
        shapes = [*self.gradients.values(), *self.statistics.values()]
        return [math.prod(shape) for shape in shapes]

    def share(self, rank: int, size: int) -> tuple[int, int]:
        """The chunks [first, last) that a worker owns."""
        return rank * self.chunks // size, (rank + 1) * self.chunks // size

    def bounds(self, chunk: int) -> tuple[int, int]:
        """The tasks [first, last) of a chunk."""
        return chunk * self.chunk, min((chunk + 1) * self.chunk, self.tasks)


@dataclass(frozen=True)
class StepSum:
    """The averages of one step.

    Attributes:
        gradients, statistics: means over the good tasks, float64, by name; empty if none is good.
        metrics: [tasks] float64 by name, in task order.
        good: bool [tasks]: which tasks were finite.
        good_tasks: how many.
    """

    gradients: dict[str, Tensor]
    statistics: dict[str, Tensor]
    metrics: dict[str, Tensor]
    good: Tensor
    good_tasks: int


def _exponents(peaks: Sequence[float], chunks: int) -> list[int | None]:
    """The power of two to scale each tensor by, or None where all its numbers are zero."""
    room = _BITS - math.ceil(math.log2(chunks)) if chunks > 1 else _BITS
    return [min(room - math.frexp(m)[1], _LARGEST_SHIFT) if m > 0 else None for m in peaks]


def _numbers(result: ChunkResult, layout: Layout) -> Tensor:
    """Of one chunk, float64 [numbers], in bucket order."""
    parts = [result.gradients[n] for n in layout.gradients]
    parts += [result.statistics[n] for n in layout.statistics]
    return torch.cat([p.detach().double().reshape(-1) for p in parts])


def reduce_step(
    results: Sequence[ChunkResult],
    first: int,
    layout: Layout,
    group: Group,
    device: torch.device,
    reduction: Literal["exact", "fast"] = "exact",
) -> StepSum:
    """Average the chunks of a step over all workers.

    Args:
        results: this worker's chunks, in index order, the first having index ``first``.
        layout: the same on all workers.
        reduction: ``exact`` gives the same bits for any number of workers; ``fast`` adds floats.
    """
    bucket, flags, metrics = _bucket(results, first, layout, device)
    good = [_numbers(r, layout) for r in results if bool(r.finite.any())]
    sums = (_exact if reduction == "exact" else _fast)(good, layout, group, bucket, device)
    ok = flags.bool().cpu()
    tasks = int(ok.sum())
    shapes = [*layout.gradients.values(), *layout.statistics.values()]
    # The count divides before the scale: a sum of huge numbers would overflow.
    means = [
        ((value / tasks) * scale).reshape(shape)
        for shape, (value, scale) in zip(shapes, sums, strict=True)
        if tasks
    ]
    return StepSum(
        gradients=dict(zip(layout.gradients, means, strict=False)),
        statistics=dict(zip(layout.statistics, means[len(layout.gradients) :], strict=False)),
        metrics={name: metrics[row].cpu() for row, name in enumerate(layout.metrics)},
        good=ok,
        good_tasks=tasks,
    )


def _bucket(
    results: Sequence[ChunkResult], first: int, layout: Layout, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The flat int64 bucket, and its views: good tasks [tasks], metrics float64 [names, tasks].

    Its numbers are still zero; flags and metrics are those of ``results``.
    """
    names, tasks, numbers = len(layout.metrics), layout.tasks, sum(layout.sizes)
    bucket = torch.zeros(numbers + tasks * (1 + names), dtype=torch.int64, device=device)
    flags = bucket[numbers : numbers + tasks]
    metrics = bucket[numbers + tasks :].view(torch.float64).reshape(names, tasks)
    for chunk, result in enumerate(results, first):
        start, stop = layout.bounds(chunk)
        flags[start:stop] = result.finite.to(flags)
        for row, name in enumerate(layout.metrics):
            metrics[row, start:stop] = result.metrics[name].to(device)
    return bucket, flags, metrics


def _exact(
    good: Sequence[Tensor], layout: Layout, group: Group, bucket: Tensor, device: torch.device
) -> list[tuple[Tensor, float]]:
    """Integer sums, as (float64 numbers, power of two to multiply by) per tensor."""
    sizes = layout.sizes
    peaks = torch.zeros(len(sizes), dtype=torch.float64, device=device)
    for numbers in good:
        parts = torch.split(numbers.abs(), sizes)
        tops = [part.max() if len(part) else part.new_zeros(()) for part in parts]
        peaks = torch.maximum(peaks, torch.stack(tops)) if tops else peaks
    group.max_(peaks)
    exponents = _exponents(peaks.tolist(), layout.chunks)
    # Without an exponent all numbers are zero.
    factors = [math.ldexp(1.0, e) if e is not None else 0.0 for e in exponents]
    scale = torch.tensor(factors, dtype=torch.float64, device=device)
    scale = scale.repeat_interleave(torch.tensor(sizes, device=device))
    sums = bucket[: sum(sizes)]
    for numbers in good:
        sums += numbers.mul_(scale).round_().to(torch.int64)
    group.sum_(bucket)
    return [
        (part, math.ldexp(1.0, -e) if e is not None else 0.0)
        for part, e in zip(torch.split(sums.double(), sizes), exponents, strict=True)
    ]


def _fast(
    good: Sequence[Tensor], layout: Layout, group: Group, bucket: Tensor, device: torch.device
) -> list[tuple[Tensor, float]]:
    """A plain all-reduce of float sums: the last bits depend on the number of workers."""
    total = torch.zeros(sum(layout.sizes), dtype=torch.float64, device=device)
    for numbers in good:
        total += numbers
    flat = total.to(layout.dtype)
    group.sum_(flat)
    group.sum_(bucket)
    return [(part, 1.0) for part in torch.split(flat.double(), layout.sizes)]
