"""What a run adds to its steps, and what it is for: its start, its disk, its bits after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from packaging.requirements import Requirement

import metadist
from metadist.training.trainer import Trainer

#: A run that is cheap to make and has the promises of any other.
RECIPE = "strokes-5w1s-maml"
SMALL = ("eval.val_episodes=20", "eval.episodes=20", "eval.extra_queries=0", "eval.steps=1")
SMALLER = ("outer.batch=4", "model.filters=16")


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """A directory of its own with the embedded data."""
    with tempfile.TemporaryDirectory() as name:
        metadist.prepare("strokes", data_dir=Path(name) / "data")
        yield Path(name)


def command(*arguments: str, steps: int) -> list[str]:
    """``metadist train`` of a small run."""
    settings = [f"outer.steps={steps}", f"eval.every={steps}", "run.checkpoint_every=10"]
    settings += [*SMALL, *SMALLER]
    return [
        *(sys.executable, "-m", "metadist", "train", "--json", *arguments),
        *(word for setting in settings for word in ("--set", setting)),
    ]


def start_of(words: list[str], directory: Path) -> dict[str, float]:
    """Seconds from nothing to the end of a command, by the clock and of processors; best of 2."""
    walls, cpus = [], []
    for _ in range(2):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(words, cwd=directory, check=True, capture_output=True)
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall": min(walls), "cpu": min(cpus)}


def overhead(directory: Path) -> dict[str, float]:
    """CPU milliseconds of an outer step of a whole run, and how much of them the trainer takes."""
    spent: dict[str, list[float]] = {"whole": [], "trainer": []}
    inside = [0.0]
    step = Trainer.step

    def watched(self: Trainer, *arguments: Any) -> Any:
        began = time.process_time()
        try:
            return step(self, *arguments)
        finally:
            inside[0] += time.process_time() - began

    Trainer.step = watched  # type: ignore[method-assign,assignment]
    for number in range(2):
        found: dict[int, tuple[float, float]] = {}
        for steps in (5, 25):
            inside[0], began = 0.0, time.process_time()
            metadist.train(
                RECIPE,
                name=f"overhead-{number}-{steps}",
                overrides=[f"outer.steps={steps}", f"eval.every={steps}", *SMALL],
                data_dir=directory / "data",
                runs_dir=directory / "runs",
                offline=True,
            )
            found[steps] = time.process_time() - began, inside[0]
        for name, one, other in zip(spent, found[5], found[25], strict=True):
            spent[name].append((other - one) / 20 * 1e3)
    Trainer.step = step  # type: ignore[method-assign]
    shares = [w / t - 1 for w, t in zip(spent["whole"], spent["trainer"], strict=True)]
    return {f"{name}_ms": median(times) for name, times in spent.items()} | {
        "share": median(shares)
    }


def megabytes(name: str) -> dict[str, float]:
    """What a distribution and all that it needs take on disk; its extras left out."""
    sizes: dict[str, float] = {}
    waiting = [name]
    while waiting:
        one = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if one in sizes:
            continue
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(one)
            sizes[one] = sum(file.size or 0 for file in found.files or ()) / 1e6
            wanted = (Requirement(line) for line in found.requires or ())
            extra = {"extra": ""}
            waiting += [r.name for r in wanted if r.marker is None or r.marker.evaluate(extra)]
    return sizes


def costs() -> dict[str, Any]:
    """Start, overhead and disk."""
    torch_alone, everything = megabytes("torch"), megabytes("metadist")
    with elsewhere() as directory:
        python = [sys.executable, "-c"]
        return {
            "start": {
                "import torch": start_of([*python, "import torch"], directory),
                "metadist --version": start_of(
                    [sys.executable, "-m", "metadist", "--version"], directory
                ),
                "a run of one step, offline": start_of(
                    command(RECIPE, "--offline", steps=1), directory
                ),
                "the same with MLflow": start_of(command(RECIPE, steps=1), directory),
                "the same with two Ray workers": start_of(
                    command(RECIPE, "--workers", "2", steps=1), directory
                ),
            },
            "overhead": overhead(directory),
            "disk_mb": {
                "torch and what it needs": sum(torch_alone.values()),
                "metadist and what it needs": sum(everything.values()),
            },
            "lines": {
                name: code_lines(Path(__file__).with_name(f"{name}.py"))
                for name in ("plain_maml", "higher_maml")
            },
        }


def code_lines(path: Path) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    text = re.sub(r'"""(?:.|\n)*?"""', "", path.read_text(encoding="utf-8"))
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") for line in text.split("\n")
    )


def promises() -> dict[str, Any]:
    """Bits of one, two and three workers, and of a run whose driver is killed twice."""
    steps, result = 40, {}
    with elsewhere() as directory:

        def digest(*arguments: str) -> str:
            done = subprocess.check_output(
                command(*arguments, "--offline", steps=steps), cwd=directory, text=True
            )
            return str(json.loads(done.splitlines()[-1])["params_sha256"])

        for workers in (0, 1, 2, 3):
            result[f"{workers} workers"] = digest(RECIPE, f"--workers={workers}")
        killed = [RECIPE, "--name", "killed", "--workers=2", "--resume", "auto"]
        for part in (0.3, 0.6):
            kill_after(command(*killed, "--offline", steps=steps), directory, int(part * steps))
        result["killed twice"] = digest(*killed)
    return {"params_sha256": result, "equal": len(set(result.values())) == 1}


def kill_after(words: list[str], directory: Path, step: int) -> None:
    """Start a run and kill its driver once a checkpoint of that step is there."""
    process = subprocess.Popen(
        words,
        cwd=directory,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = directory / "runs/killed/checkpoints"
    while process.poll() is None:
        found = [int(n) for p in checkpoints.glob("*") for n in re.findall(r"\d+", p.name)]
        if max(found, default=0) >= step:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    process.wait()
