"""What a training step of prototypical networks costs beside a loop by hand, on one core.

    python -m tests.benchmarks.protonet [--rounds N]

Same network, weights and tasks; both pass support and queries of a task in one batch. Gradients in
float64 have to be equal before anything is timed. They take turns step by step in one process;
seconds are those of the processor, and the first round is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F

import metadist
from data_pipeline.episodes.types import ALWAYS, EpisodeBatch
from metadist.compute.collectives import Solo
from metadist.compute.determinism import reproducible
from metadist.compute.device import keep_freed_memory
from metadist.compute.learners import build
from metadist.tasks import TaskShape, to_tasks
from metadist.training.trainer import Trainer
from tests.benchmarks.peers import CPU, REVEALING, distance, machine, spread
from tests.benchmarks.plain_maml import Params, Task


@dataclass(frozen=True)
class Problem:
    """Tasks of an outer step: Omniglot's network with pooling, one shot."""

    ways: int
    queries: int
    tasks: int

    def episodes(self) -> EpisodeBatch:
        """Random images, the same at each call."""
        rng, columns = np.random.default_rng(0), []
        for copies in (1, self.queries):
            size = (self.tasks, self.ways * copies, 28, 28, 1)
            columns.append(rng.integers(0, 256, size, dtype=np.uint8))
            columns.append(np.tile(np.repeat(np.arange(self.ways), copies), (self.tasks, 1)))
        return EpisodeBatch(np.arange(self.tasks), dict(zip(ALWAYS, columns, strict=True)))

    def trainer(self, dtype: str, outer: dict[str, Any], kernels: str = "fused") -> Trainer:
        """Ours."""
        form = {"downsample": "pool", "head": "flatten", "affine": "scale_shift"}
        recipe = metadist.Recipe.model_validate(
            {
                "data": {"dataset": "none", "ways": self.ways},
                "model": {"name": "conv4", "filters": 64, "norm": "running", **form},
                "algorithm": {"name": "protonet"},
                "inner": {"steps": 0},
                "outer": {"batch": self.tasks, **outer},
                "engine": {"dtype": dtype, "kernels": kernels},
            }
        )
        shape = TaskShape((1, 28, 28), self.ways, self.ways, classes=self.ways)
        return Trainer(recipe, build(recipe, shape), Solo(), CPU)

    def tensors(self, dtype: torch.dtype) -> list[Task]:
        """The same tasks, which the loop is given outside of what is timed."""
        tasks = to_tasks(self.episodes(), dtype, CPU)
        one = (tasks.task(index) for index in range(self.tasks))
        return [(t.support.x, t.support.y, t.query.x, t.query.y) for t in one]


class PlainProtoNet:
    """Prototypical networks as one writes them by hand (Snell et al., 2017)."""

    def __init__(self, params: Params) -> None:
        self.params = {name: p.clone().requires_grad_() for name, p in params.items()}
        self.optimizer = torch.optim.Adam(self.params.values(), lr=1e-3)

    def loss(self, task: Task) -> torch.Tensor:
        """Of the queries of a task."""
        support_x, support_y, query_x, query_y = task
        x, p = torch.cat([support_x, query_x]), self.params
        for block in range(1, 5):
            x = F.conv2d(x, p[f"conv{block}.weight"], padding=1)
            scale, shift = p[f"norm{block}.scale"], p[f"norm{block}.shift"]
            x = F.relu(F.batch_norm(x, None, None, scale, shift, training=True, eps=1e-3))
            x = F.max_pool2d(x, 2)
        support, queries = x.flatten(1).split([len(support_x), len(query_x)])
        ways = range(int(support_y.max()) + 1)
        prototypes = torch.stack([support[support_y == way].mean(0) for way in ways])
        return F.cross_entropy(-(torch.cdist(queries, prototypes) ** 2), query_y)

    def gradient(self, tasks: Sequence[Task]) -> Params:
        """The mean gradient of the tasks, which is left in ``.grad``."""
        self.optimizer.zero_grad()
        for task in tasks:
            (self.loss(task) / len(tasks)).backward()
        return {name: p.grad for name, p in self.params.items() if p.grad is not None}

    def step(self, tasks: Sequence[Task]) -> None:
        """One outer step."""
        self.gradient(tasks)
        self.optimizer.step()


def checked(problem: Problem) -> float:
    """Relative distance of the gradients; raises ValueError if they are not the same."""
    ours = problem.trainer("float64", {"optimizer": "sgd", "lr": REVEALING})
    start = {name: p.clone() for name, p in ours.params.items()}
    wanted = PlainProtoNet(start).gradient(problem.tensors(torch.float64))
    ours.step(problem.episodes(), range(problem.tasks))
    got = {name: (p - ours.params[name]) / REVEALING for name, p in start.items()}
    if (apart := distance(got, wanted)) > 1e-9:
        raise ValueError(f"gradients differ by {apart}, nothing is timed")
    return apart


def timed(problem: Problem, rounds: int) -> dict[str, Any]:
    """Tasks per second of the processor of each, and their ratios to the loop by hand."""
    trainers = {name: problem.trainer("float32", {}, name) for name in ("fused", "torch")}
    plain, tasks = PlainProtoNet(trainers["torch"].params), problem.tensors(torch.float32)
    episodes, seconds = problem.episodes(), dict[str, list[float]]()
    for _ in range(rounds + 1):
        for name in ("plain", *trainers):
            began = time.process_time()
            if name == "plain":
                plain.step(tasks)
            else:
                with reproducible(CPU):
                    trainers[name].step(episodes, range(problem.tasks))
            seconds.setdefault(name, []).append(time.process_time() - began)
    kept = {name: times[1:] for name, times in seconds.items()}
    return {
        name: {
            "tasks_per_cpu_second": spread([problem.tasks / s for s in times]),
            "against_plain": spread(
                [hand / own for hand, own in zip(kept["plain"], times, strict=True)]
            ),
        }
        for name, times in kept.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    keep_freed_memory()
    found = {}
    for name, problem in (
        ("5-way 1-shot, 15 queries, 8 tasks", Problem(5, 15, 8)),
        ("60-way 1-shot, 5 queries, 1 task", Problem(60, 5, 1)),
    ):
        few = Problem(problem.ways, 1, 2)
        found[name] = {"gradients": checked(few), **timed(problem, rounds)}
    print(json.dumps({**found, "machine": machine()}, indent=1))


if __name__ == "__main__":
    main()
