"""One worker of a real process group: reduce given chunks, write what came out.

    python gloo_worker.py RENDEZVOUS RANK SIZE CHUNKS OUT

``test_reduce.py`` starts several of these; CHUNKS and OUT are safetensors files.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from metadist.compute.collectives import Group, Workers
from metadist.compute.order_free_sum import Layout, StepSum, reduce_step
from metadist.compute.strategies import ChunkResult

CPU = torch.device("cpu")


def split(tensors: dict[str, Tensor]) -> tuple[Layout, list[ChunkResult]]:
    """Layout and chunks from a flat file: ``<chunk>/<what>/<name>``, and ``tasks``, ``chunk``."""
    tasks, size = int(tensors["tasks"]), int(tensors["chunk"])
    results = []
    for chunk in range(-(-tasks // size)):
        parts: dict[str, dict[str, Tensor]] = {"gradients": {}, "statistics": {}, "metrics": {}}
        for key, value in tensors.items():
            if key.startswith(f"{chunk}/"):
                _, what, name = key.split("/")
                parts[what][name] = value
        results.append(ChunkResult(**parts, finite=tensors[f"{chunk}"]))
    first = results[0]
    layout = Layout(
        gradients={n: tuple(g.shape) for n, g in first.gradients.items()},
        statistics={n: tuple(s.shape) for n, s in first.statistics.items()},
        metrics=tuple(first.metrics),
        tasks=tasks,
        chunk=size,
    )
    return layout, results


def flat(layout: Layout, results: list[ChunkResult]) -> dict[str, Tensor]:
    """The inverse of :func:`split`."""
    tensors = {"tasks": torch.tensor(layout.tasks), "chunk": torch.tensor(layout.chunk)}
    for chunk, result in enumerate(results):
        tensors[f"{chunk}"] = result.finite
        for what in ("gradients", "statistics", "metrics"):
            for name, value in getattr(result, what).items():
                tensors[f"{chunk}/{what}/{name}"] = value.contiguous()
    return tensors


def reduced(layout: Layout, results: list[ChunkResult], group: Group) -> StepSum:
    """This worker's share of the chunks, reduced."""
    first, last = layout.share(group.rank, group.size)
    return reduce_step(results[first:last], first, layout, group, CPU)


def outcome(step: StepSum) -> dict[str, Tensor]:
    """Everything a step gives, as tensors; floats as bit patterns, so that equal means equal."""
    tensors = {"good": step.good, "good_tasks": torch.tensor(step.good_tasks)}
    for what in ("gradients", "statistics", "metrics"):
        for name, value in getattr(step, what).items():
            assert value.dtype == torch.float64
            tensors[f"{what}/{name}"] = value.contiguous().view(torch.int64).clone()
    return tensors


def main(rendezvous: str, rank: int, size: int, chunks: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=Path(rendezvous).as_uri(),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    layout, results = split(safetensors.torch.load_file(chunks))
    step = reduced(layout, results, Workers(CPU))
    safetensors.torch.save_file(outcome(step), out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
