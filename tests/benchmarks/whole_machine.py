"""Tasks per second of a whole machine: a run, everything included, beside a loop by hand.

    python -m tests.benchmarks.whole_machine [--out FILE] [--rounds N] [--steps N]

MAML on Omniglot's network, 5-way 1-shot, one inner step, 32 tasks of one query per class. Ours is a
run with a Ray worker on each core: episodes of the embedded dataset, the exact sum, log, MLflow.
The loop by hand has its tasks in memory and does nothing else: as one process with a thread on
each core, and as a process on each core, which do not speak to each other. Beside them our trainer
alone, a process on each core. They take turns; wall time of their steps, without starts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from metadist.compute.determinism import reproducible
from metadist.compute.device import keep_freed_memory
from metadist.process.resources import available_cores
from metadist.runs.log import series
from metadist.runs.run_dir import RunDir
from tests.benchmarks.costs import RECIPE, elsewhere
from tests.benchmarks.peers import CPU, Ours, Problem, machine, spread
from tests.benchmarks.plain_maml import PlainMAML

PROBLEM = Problem("Omniglot's network, 1 step, 32 tasks", (28, 28, 1), 64, False, 1, 1, 0.4, 32)
WARM = 3


def alone(what: str, threads: int, steps: int) -> None:
    """Steps of the loop by hand, or of our trainer, after a word on standard input; prints s."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    ours = Ours(PROBLEM, "float32", {})
    plain = PlainMAML(ours.start, PROBLEM.inner_lr, PROBLEM.inner_steps, PROBLEM.pool)
    tasks = PROBLEM.tensors(torch.float32)

    def take(count: int) -> None:
        for _ in range(count):
            if what == "plain":
                plain.step(tasks)
            else:
                with reproducible(CPU):
                    ours.step()

    take(WARM)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    take(steps)
    print(time.perf_counter() - began, flush=True)


def processes(what: str, count: int, threads: int, steps: int) -> float:
    """Tasks per second of so many processes together."""
    module = "tests.benchmarks.whole_machine"
    command = [sys.executable, "-m", module, "--alone", what, str(threads), str(steps)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(count)]  # type: ignore[call-overload]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(steps * PROBLEM.tasks / float(p.communicate()[0]) for p in started)


def trained(directory: Path, workers: int, steps: int) -> float:
    """Tasks per second of a run, over all its steps but the first ten."""
    name = f"w{time.time_ns()}"
    settings = [
        *(f"outer.steps={steps}", f"eval.every={steps}", f"run.checkpoint_every={steps}"),
        *("eval.val_episodes=2", "eval.episodes=2", "eval.extra_queries=0", "eval.steps=1"),
        "model.affine=scale_shift",
    ]
    command = [sys.executable, "-m", "metadist", "train", RECIPE, "--name", name]
    command += ["--workers", str(workers), *(w for s in settings for w in ("--set", s))]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    found = series(RunDir(directory / "runs" / name))
    done = {p.step: p.value for p in found["perf/tasks_per_second"]}
    first, last = min(done), max(done)
    took = [step * PROBLEM.tasks / done[step] for step in (first, last)]
    return (last - first) * PROBLEM.tasks / (took[1] - took[0])


def measured(rounds: int, steps: int) -> dict[str, Any]:
    """Tasks per second of each, taking turns."""
    cores = available_cores()
    with elsewhere() as directory:
        ways = {
            "metadist train": lambda: trained(directory, cores, 4 * steps),
            "trainers": lambda: processes("ours", cores, 1, steps),
            "loops": lambda: processes("plain", cores, 1, steps),
            "loop with threads": lambda: processes("plain", 1, cores, steps),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                rates[name].append(way())
                print(f"{name}: {rates[name][-1]:.1f} tasks/s", flush=True)
    found: dict[str, Any] = {name: spread(values) for name, values in rates.items()}
    whole = found["metadist train"]["median"]
    peer = max(found["loops"]["median"], found["loop with threads"]["median"])
    found["against the better loop"] = whole / peer
    found["against bare trainers"] = whole / found["trainers"]["median"]
    return found | {"machine": machine()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", nargs=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    if asked.alone:
        what, threads, steps = asked.alone
        alone(what, int(threads), int(steps))
        return
    text = json.dumps(measured(asked.rounds, asked.steps), indent=1) + "\n"
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
