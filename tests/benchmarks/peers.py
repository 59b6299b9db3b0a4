"""What metadist costs and gives beside a loop by hand and ``higher``, measured on this machine.

    python -m tests.benchmarks.peers [--out FILE] [--rounds N] [PART ...]

Parts: ``speed`` (an outer step of each, on one core, equal gradients demanded first), ``costs``
(start, what a run adds to its steps, disk) and ``promises`` (the bits of one, two and three
workers, and of a run that was killed). The file keeps the parts that are not measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor

import metadist
from data_pipeline.episodes.types import ALWAYS, EpisodeBatch
from metadist.compute.collectives import Solo
from metadist.compute.determinism import reproducible
from metadist.compute.device import keep_freed_memory
from metadist.compute.learners import build
from metadist.kernels import library
from metadist.tasks import TaskShape, to_tasks
from metadist.training.trainer import Trainer
from tests.benchmarks.costs import costs, promises
from tests.benchmarks.higher_maml import HigherMAML
from tests.benchmarks.plain_maml import Params, PlainMAML, Task

CPU = torch.device("cpu")
WAYS = 5
#: Outer rate with which a step of plain descent in float64 shows its gradient to the last digits.
REVEALING = 2.0**30


@dataclass(frozen=True)
class Problem:
    """A network and the tasks of an outer step: 5 ways, 1 shot.

    Attributes:
        image: (height, width, channels).
        queries: of each class.
        tasks: of an outer step.
    """

    name: str
    image: tuple[int, int, int]
    filters: int
    pool: bool
    queries: int
    inner_steps: int
    inner_lr: float
    tasks: int

    def recipe(self, dtype: str, outer: dict[str, Any], kernels: str) -> metadist.Recipe:
        """Of the same problem for us."""
        form = {"downsample": "pool", "head": "flatten"} if self.pool else {}
        model = {"name": "conv4", "filters": self.filters, "affine": "scale_shift", **form}
        return metadist.Recipe.model_validate(
            {
                "data": {"dataset": "none"},
                "model": {**model, "head_init": "xavier", "norm": "transductive"},
                "algorithm": {"name": "maml", "adapt_norm": True},
                "inner": {
                    "lr": self.inner_lr,
                    "steps": self.inner_steps,
                    "loss": "sum_over_ways",
                },
                "outer": {"batch": self.tasks, **outer},
                "engine": {"dtype": dtype, "kernels": kernels},
            }
        )

    def episodes(self) -> EpisodeBatch:
        """Random images, the same at each call."""
        rng = np.random.default_rng(0)
        columns = []
        for copies in (1, self.queries):
            size = (self.tasks, WAYS * copies, *self.image)
            columns.append(rng.integers(0, 256, size, dtype=np.uint8))
            columns.append(np.tile(np.repeat(np.arange(WAYS), copies), (self.tasks, 1)))
        return EpisodeBatch(np.arange(self.tasks), dict(zip(ALWAYS, columns, strict=True)))

    def tensors(self, dtype: torch.dtype) -> list[Task]:
        """The same as tensors, which the others are given outside of what is timed."""
        tasks = to_tasks(self.episodes(), dtype, CPU)
        one = (tasks.task(index) for index in range(self.tasks))
        return [(t.support.x, t.support.y, t.query.x, t.query.y) for t in one]


PROBLEMS = (
    Problem("Omniglot's network, 1 step", (28, 28, 1), 64, False, 1, 1, 0.4, 8),
    Problem("Omniglot's network, 5 steps", (28, 28, 1), 64, False, 1, 5, 0.4, 4),
    Problem("miniImageNet's network, 5 steps", (84, 84, 3), 32, True, 15, 5, 0.01, 1),
)


class Ours:
    """The trainer of a run, without the run; by compiled kernels or by torch."""

    def __init__(
        self, problem: Problem, dtype: str, outer: dict[str, Any], kernels: str = "fused"
    ) -> None:
        height, width, channels = problem.image
        recipe = problem.recipe(dtype, outer, kernels)
        learner = build(recipe, TaskShape((channels, height, width), WAYS, WAYS))
        self.trainer = Trainer(recipe, learner, Solo(), CPU)
        self.episodes = problem.episodes()
        self.start = {name: p.clone() for name, p in self.trainer.params.items()}

    def step(self) -> None:
        """One outer step."""
        self.trainer.step(self.episodes, range(len(self.episodes)))

    def gradient(self) -> Params:
        """The meta-gradient, read off a step of plain descent."""
        self.step()
        after = self.trainer.params
        return {name: (p - after[name]) / REVEALING for name, p in self.start.items()}


def distance(one: Params, other: Params) -> float:
    """Relative distance of two gradients as a whole (L2)."""
    flat = [torch.cat([p[name].flatten() for name in other]) for p in (one, other)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def central_difference(peer: PlainMAML, tasks: Sequence[Task], gradient: Params) -> float:
    """How far the slope along the gradient is from what losses on both sides say (relative)."""
    length = torch.cat([g.flatten() for g in gradient.values()]).norm()
    step, start = 1e-6, {name: p.detach().clone() for name, p in peer.params.items()}

    def loss(sign: int) -> Tensor:
        with torch.no_grad():
            for name, p in peer.params.items():
                p.copy_(start[name] + sign * step * gradient[name] / length)
        return torch.stack([peer.query_loss(task).detach() for task in tasks]).mean()

    return float(abs((loss(1) - loss(-1)) / (2 * step) / length - 1))


def exactness(problem: Problem) -> dict[str, float]:
    """Relative distances of meta-gradients in float64; raises ValueError if two differ."""
    few = Problem(**{**vars(problem), "tasks": 2})
    revealing = {"optimizer": "sgd", "lr": REVEALING}
    ours, looped = (Ours(few, "float64", revealing, name) for name in ("fused", "torch"))
    settings = (few.inner_lr, few.inner_steps, few.pool)
    tasks = few.tensors(torch.float64)
    plain, higher = PlainMAML(ours.start, *settings), HigherMAML(ours.start, *settings)
    found, by_hand = ours.gradient(), plain.gradient(tasks)
    result = {
        "ours": distance(found, by_hand),
        "torch": distance(looped.gradient(), by_hand),
        "higher": distance(higher.gradient(tasks), by_hand),
        "central_difference": central_difference(plain, tasks, found),
    }
    if max(result["ours"], result["torch"], result["higher"]) > 1e-9:
        raise ValueError(f"{few.name}: gradients differ, nothing is timed: {result}")
    return result


def timed(problem: Problem, rounds: int) -> dict[str, Any]:
    """CPU seconds of an outer step of each, one after the other in every round."""
    start = Ours(problem, "float32", {}).start
    settings = (problem.inner_lr, problem.inner_steps, problem.pool)
    tasks = problem.tensors(torch.float32)
    plain, higher = PlainMAML(start, *settings), HigherMAML(start, *settings)
    ours, looped = (Ours(problem, "float32", {}, name) for name in ("fused", "torch"))
    steps: dict[str, Callable[[], None]] = {
        "plain": lambda: plain.step(tasks),
        "higher": lambda: higher.step(tasks),
        "torch": looped.step,
        "ours": ours.step,
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            began = time.process_time()
            own = name in ("ours", "torch")
            with reproducible(CPU) if own else contextlib.nullcontext():
                step()
            seconds[name].append(time.process_time() - began)
    kept = {name: times[1:] for name, times in seconds.items()}  # the first warms up
    ratios = {
        name: [hand / own for hand, own in zip(kept["plain"], times, strict=True)]
        for name, times in kept.items()
    }
    return {
        name: {
            "tasks_per_cpu_second": spread([problem.tasks / s for s in times]),
            "against_plain": spread(ratios[name]),
        }
        for name, times in kept.items()
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def speed(rounds: int) -> dict[str, Any]:
    """Gradients and times of each problem, on one thread of a process that keeps freed memory."""
    torch.set_num_threads(1)
    keep_freed_memory()
    return {p.name: {"exactness": exactness(p), "speed": timed(p, rounds)} for p in PROBLEMS}


def machine() -> dict[str, str]:
    """Where and with what this was measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        **{name: metadata.version(name) for name in ("torch", "higher", "ray", "mlflow")},
        "python": platform.python_version(),
        "kernels": built.target if (built := library.available()) else "none",
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["speed", "costs", "promises"])
    parser.add_argument("--out", type=Path, default=Path("peers.json"))
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    measures: dict[str, Callable[[], Any]] = {
        "speed": lambda: speed(asked.rounds),
        "costs": costs,
        "promises": promises,
    }
    result = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for part in asked.parts:
        result[part] = measures[part]() | {"machine": machine()}
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
