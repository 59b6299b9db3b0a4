"""What a run directory says of a run. What is missing or damaged is noted, never a crash."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from data_pipeline.errors import DataError
from data_pipeline.storage import read_json
from metadist.engine.rundir import RunDir
from metadist.engine.runlog import Point, series
from metadist.errors import MetadistError
from metadist.recipe import Recipe

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class StepFigures:
    """Figures after one number of adaptation steps; NaN where there is no finite one."""

    step: int
    mean: float
    ci95: float
    worst_decile: float
    loss: float


@dataclass(frozen=True)
class Protocol:
    """Results of one evaluation protocol.

    Attributes:
        scores: float64 [E, K + 1]: each episode's score after each step; None if not readable.
    """

    part: str
    queries: int
    kind: str
    score: str
    episodes: int
    failed: int
    trained_steps: int
    episode_digest: str
    norm: str
    checkpoint_step: int
    checkpoint_sha256: str
    steps: tuple[StepFigures, ...]
    scores: NDArray[np.float64] | None

    @property
    def name(self) -> str:
        """As its files are called."""
        return f"{self.part}-{self.queries}q"

    @property
    def trained(self) -> StepFigures:
        """Figures after the trained number of steps, or the last there are."""
        return self.steps[min(self.trained_steps, len(self.steps) - 1)]


@dataclass
class RunData:
    """A run as its directory stands.

    Attributes:
        protocols: results on test episodes, the recipe's own protocol first.
        examples: tensors of ``evaluation/examples.safetensors``; None if there are none.
        notes: what could not be read, in sentences.
    """

    name: str
    info: dict[str, Any]
    recipe: Recipe | None
    attempts: list[dict[str, Any]]
    series: dict[str, list[Point]]
    protocols: list[Protocol] = field(default_factory=list)
    examples: Arrays | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def regression(self) -> bool:
        """Whether values are predicted, not classes."""
        if self.protocols:
            return self.protocols[0].kind == "regression"
        return self.recipe is not None and self.recipe.data.ways == 0

    @property
    def steps_done(self) -> int:
        """Outer steps in the log."""
        return max((p.step for p in self.series.get("train/loss", [])), default=0)

    @property
    def unverified(self) -> bool:
        """Whether the run was continued under other numerics."""
        return any(facts.get("bits") == "unverified" for facts in [*self.attempts, self.info])

    def result(self) -> Mapping[str, Any]:
        """The run's result; empty if there is none yet."""
        result = self.info.get("result")
        return result if isinstance(result, dict) else {}


def load_run(run: RunDir) -> RunData:
    """Read everything a report needs.

    Raises:
        RunError: run.json is missing or damaged: then it is no run.
    """
    data = RunData(run.name, run.info(), None, [], {})
    try:
        data.recipe = run.recipe()
    except (MetadistError, OSError, UnicodeDecodeError) as error:
        data.notes.append(f"The recipe cannot be read: {error}.")
    try:
        for number in range(1, run.latest_attempt() + 1):
            data.attempts.append(run.attempt_facts(number))
        data.series = series(run)
    except (DataError, OSError, KeyError, TypeError, AttributeError) as error:
        data.notes.append(f"The metric log cannot be read in full: {error}.")
    for path in sorted(run.evaluation.glob("test-*.json")):
        protocol = _protocol(path, data.notes)
        if protocol is not None:
            data.protocols.append(protocol)
    own = data.recipe.eval.queries if data.recipe else None
    data.protocols.sort(key=lambda p: (p.queries != own, p.queries))
    data.examples = _examples(run.evaluation / "examples.safetensors", data.notes)
    return data


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _protocol(path: Path, notes: list[str]) -> Protocol | None:
    try:
        raw = read_json(path)
        steps = tuple(
            StepFigures(
                int(row["step"]),
                *(_number(row[name]) for name in ("mean", "ci95", "worst_decile", "loss")),
            )
            for row in raw["by_step"]
        )
        if not steps:
            raise ValueError("no steps")
        return Protocol(
            part=str(raw["part"]),
            queries=int(raw["queries"]),
            kind=str(raw["kind"]),
            score=str(raw["score"]),
            episodes=int(raw["episodes"]),
            failed=int(raw["failed"]),
            trained_steps=int(raw["trained_steps"]),
            episode_digest=str(raw["episode_digest"]),
            norm=str(raw["norm"]),
            checkpoint_step=int(raw["checkpoint"]["step"]),
            checkpoint_sha256=str(raw["checkpoint"]["params_sha256"]),
            steps=steps,
            scores=_scores(path.with_suffix(".parquet"), str(raw["score"]), len(steps), notes),
        )
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {type(error).__name__}: {error}.")
        return None


def _scores(path: Path, score: str, steps: int, notes: list[str]) -> NDArray[np.float64] | None:
    try:
        table = pq.read_table(
            path, columns=["episode", "step", score], page_checksum_verification=True
        )
        table = table.sort_by([("episode", "ascending"), ("step", "ascending")])
        column = table[score].to_numpy().astype(np.float64)
        return np.asarray(column.reshape(-1, steps), dtype=np.float64)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {error}.")
        return None


def _examples(path: Path, notes: list[str]) -> Arrays | None:
    if not path.is_file():
        return None
    try:
        arrays: Arrays = load_file(path)
        needed = ("ids", "support_x", "support_y", "query_x", "query_y", "outputs")
        missing = [name for name in needed if name not in arrays]
        if missing:
            raise ValueError(f"no tensor {', '.join(missing)}")
        if len({len(arrays[name]) for name in needed}) != 1 or arrays["outputs"].ndim != 4:
            raise ValueError("its tensors do not belong together")
        return arrays
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {error}.")
        return None
