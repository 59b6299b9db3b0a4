"""How fast a step's gradient is with compiled kernels, beside torch, a loop by hand and ``higher``.

    python -m tests.benchmarks.kernels [--out FILE] [--rounds N] [PROBLEM ...]

On one thread, CPU time, one after the other in every round; gradients are demanded equal in float64
first. What is timed is the gradient of all tasks of a step, without reduction and optimizer.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from metadist.compute.determinism import reproducible
from metadist.compute.device import keep_freed_memory
from metadist.compute.learners import build, context
from metadist.compute.strategies import Loop
from metadist.keys import Key
from metadist.tasks import TaskShape, to_tasks
from tests.benchmarks.higher_maml import HigherMAML
from tests.benchmarks.peers import CPU, WAYS, Problem, distance, machine, spread
from tests.benchmarks.plain_maml import Params, PlainMAML

OMNIGLOT, MINI = (28, 28, 1), (84, 84, 3)
#: 5 ways, 1 shot; 32 tasks of one inner step, few of five.
PROBLEMS = {
    "P": Problem("Omniglot, 1 step, 1 query", OMNIGLOT, 64, False, 1, 1, 0.4, 32),
    "Q": Problem("Omniglot, 1 step, 15 queries", OMNIGLOT, 64, False, 15, 1, 0.4, 32),
    "R": Problem("Omniglot, 5 steps, 1 query", OMNIGLOT, 64, False, 1, 5, 0.4, 8),
    "Rp": Problem("Omniglot, 5 steps, 1 query, pooled", OMNIGLOT, 64, True, 1, 5, 0.1, 8),
    "M": Problem("miniImageNet, 5 steps, 15 queries", MINI, 32, True, 15, 5, 0.01, 4),
}
CHUNK = 8


class Ours:
    """The loop strategy of a run, chunk by chunk."""

    def __init__(self, problem: Problem, dtype: torch.dtype, kernels: str) -> None:
        name = str(dtype).removeprefix("torch.")
        recipe = problem.recipe(name, {}, kernels)
        height, width, channels = problem.image
        self.learner = build(recipe, TaskShape((channels, height, width), WAYS, WAYS))
        self.ctx = context(recipe, "train", 0)
        self.tasks = to_tasks(problem.episodes(), dtype, CPU)

    def gradient(self, params: Params) -> Params:
        """The mean meta-gradient."""
        total: dict[str, Tensor] = {}
        with reproducible(CPU):
            for start in range(0, len(self.tasks), CHUNK):
                some = self.tasks.slice(start, min(start + CHUNK, len(self.tasks)))
                found = Loop().chunk(self.learner, params, some, [{}] * len(some), self.ctx)
                for name, part in found.gradients.items():
                    total[name] = total[name] + part if name in total else part
        return {name: part / len(self.tasks) for name, part in total.items()}


def gradients(problem: Problem, dtype: torch.dtype) -> dict[str, Callable[[], Params]]:
    """What computes the meta-gradient, by name."""
    fused, looped = (Ours(problem, dtype, kernels) for kernels in ("fused", "torch"))
    generator = torch.Generator().manual_seed(0)
    recipe_params = fused.learner.init(Key.of("benchmark", 0))
    # Away from where it starts, so that every term of the gradient counts.
    start = {
        name: (p.double() + 0.02 * torch.randn(p.shape, generator=generator).double()).to(dtype)
        for name, p in recipe_params.items()
    }
    settings = (problem.inner_lr, problem.inner_steps, problem.pool)
    tasks = problem.tensors(dtype)
    plain, higher = PlainMAML(start, *settings), HigherMAML(start, *settings)
    return {
        "plain": lambda: plain.gradient(tasks),
        "higher": lambda: higher.gradient(tasks),
        "torch": lambda: looped.gradient(start),
        "fused": lambda: fused.gradient(start),
    }


def exactness(problem: Problem) -> dict[str, float]:
    """Relative distance to the loop by hand in float64; raises ValueError if one is far."""
    few = Problem(**{**vars(problem), "tasks": 2})
    found = {name: function() for name, function in gradients(few, torch.float64).items()}
    by_hand = {name: g.clone() for name, g in found["plain"].items()}
    far = {name: distance(found[name], by_hand) for name in ("higher", "torch", "fused")}
    if max(far.values()) > 1e-9:
        raise ValueError(f"{problem.name}: gradients differ, nothing is timed: {far}")
    return far


def timed(problem: Problem, rounds: int) -> dict[str, Any]:
    """Tasks per CPU second of each, and how that compares to the best of the others."""
    functions = gradients(problem, torch.float32)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            began = time.process_time()
            function()
            seconds[name].append(time.process_time() - began)
    kept = {name: times[1:] for name, times in seconds.items()}  # the first warms up
    rates = {name: spread([problem.tasks / s for s in times]) for name, times in kept.items()}
    best = max(rates[name]["median"] for name in ("plain", "higher"))
    return {
        name: {"tasks_per_cpu_second": rate, "against_best_peer": rate["median"] / best}
        for name, rate in rates.items()
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", default=[*PROBLEMS])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    result: dict[str, Any] = {"machine": machine()}
    for name in asked.problems:
        problem = PROBLEMS[name]
        result[name] = {"exactness": exactness(problem), **timed(problem, asked.rounds)}
        rows = [
            f"{who} {found['tasks_per_cpu_second']['median']:.1f} "
            f"({found['against_best_peer']:.2f}x)"
            for who, found in result[name].items()
            if who != "exactness"
        ]
        print(f"{name}: {', '.join(rows)} tasks per CPU second", flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
