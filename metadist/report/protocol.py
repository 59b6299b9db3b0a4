"""What a file under ``evaluation/`` says, checked: anybody may have altered it since."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.errors import DataError
from data_pipeline.formats.parquet import read_capped
from data_pipeline.storage.local import read_json
from metadist.statistics.classes import (
    EpisodeClasses,
    classes_file,
    few_classes,
    of_classes,
    read_classes,
)

_SCORES = {"classification": "accuracy", "regression": "mse"}
#: Nobody counts further in a few-shot protocol.
_MOST = 10**9
#: Nor evaluates more episodes x steps; three numbers each, and a table's fixed part.
_MOST_ROWS, _ROW_BYTES, _TABLE_BYTES = 1 << 24, 128, 1 << 20


@dataclass(frozen=True)
class StepFigures:
    """Figures after one number of adaptation steps; NaN where there is no finite one.

    Attributes:
        failed: episodes with an output that is not finite.
        ci95_classes: half-width of the interval over new classes.
    """

    step: int
    mean: float
    ci95: float
    worst_decile: float
    loss: float
    median: float = math.nan
    failed: int = 0
    ci95_classes: float = math.nan


@dataclass(frozen=True)
class Protocol:
    """Results of one evaluation protocol.

    Attributes:
        name: as its files are called.
        own: whether it is one of the recipe's; others were asked for later.
        figure_step: the number of steps whose figure is the protocol's.
        scores: float64 [E, K + 1]: each episode's score after each step; None if not readable.
        classes: of the episodes; None of functions, if not readable, and if not recorded.
    """

    name: str
    own: bool
    part: str
    queries: int
    kind: str
    score: str
    episodes: int
    failed: int
    trained_steps: int
    figure_step: int
    episode_digest: str
    norm: str
    checkpoint_step: int
    checkpoint_sha256: str
    steps: tuple[StepFigures, ...]
    scores: NDArray[np.float64] | None
    classes: EpisodeClasses | None = None

    @property
    def figure(self) -> StepFigures:
        """The protocol's figures."""
        return self.steps[self.figure_step]

    @property
    def of_classes(self) -> str:
        """`` of 423 classes``; nothing where they are not known."""
        return of_classes(self.classes.told(), self.score) if self.classes else ""

    @property
    def few_classes(self) -> str:
        """A warning if the classes are few; empty if not, or if they are not known."""
        known = self.classes
        return few_classes(known.count, known.ways, self.part) if known else ""


def read_protocol(path: Path, own: bool, notes: list[str]) -> Protocol | None:
    """Read ``evaluation/<name>.json`` and its table; what cannot be read is noted.

    Args:
        own: whether the protocol is one of the recipe's.
    """
    try:
        return _with_classes(_parsed(path, own, notes), path.parent, notes)
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {type(error).__name__}: {error}.")
        return None


def _parsed(path: Path, own: bool, notes: list[str]) -> Protocol:
    raw = read_json(path)
    episodes = _count(raw, "episodes", 1)
    part, queries = _text(raw, "part"), _count(raw, "queries", 1)
    if not (path.stem.startswith(f"{part}-") and path.stem.endswith(f"-{queries}q")):
        raise ValueError(f"it is of part {part!r} and {queries} queries, its name says otherwise")
    kind, score = _text(raw, "kind"), _text(raw, "score")
    if _SCORES.get(kind) != score:
        raise ValueError(f"kind {kind!r} and score {score!r} do not go together")
    if len(raw["failed_by_step"]) != len(raw["by_step"]) or not raw["by_step"]:
        raise ValueError("by_step and failed_by_step need as many entries, and at least one")
    steps = tuple(
        _step(k, row, failed, episodes)
        for k, (row, failed) in enumerate(zip(raw["by_step"], raw["failed_by_step"], strict=True))
    )
    trained = _count(raw, "trained_steps", 0)
    # Older files are about the trained number of steps.
    about = min(trained, len(steps) - 1)
    figure = _count({"figure_step": about, **raw}, "figure_step", 0, len(steps) - 1)
    return Protocol(
        name=path.stem,
        own=own,
        part=part,
        queries=queries,
        kind=kind,
        score=score,
        episodes=episodes,
        failed=_count(raw, "failed", 0, episodes),
        trained_steps=trained,
        figure_step=figure,
        episode_digest=_text(raw, "episode_digest"),
        norm=_text(raw, "norm"),
        checkpoint_step=_count(raw["checkpoint"], "step", 0),
        checkpoint_sha256=_text(raw["checkpoint"], "params_sha256"),
        steps=steps,
        scores=_scores(path.with_suffix(".parquet"), score, (episodes, len(steps)), notes),
    )


def _with_classes(protocol: Protocol, directory: Path, notes: list[str]) -> Protocol:
    """The same with the classes of its episodes and what follows from them."""
    if protocol.kind == "regression":
        return protocol
    path = classes_file(directory, protocol.name)
    try:
        classes = read_classes(path, protocol.episodes)
    except DataError as error:
        notes.append(f"evaluation/{path.name} cannot be read: {error}.")
        return protocol
    if classes is None or protocol.scores is None or not np.isfinite(protocol.scores).all():
        return replace(protocol, classes=classes)
    steps = zip(protocol.steps, classes.ci95(protocol.scores), strict=True)
    told = tuple(replace(step, ci95_classes=float(half)) for step, half in steps)
    return replace(protocol, classes=classes, steps=told)


def _step(position: int, row: Mapping[str, Any], failed: Any, episodes: int) -> StepFigures:
    _count(row, "step", position, position)
    names = ("mean", "ci95", "worst_decile", "loss")
    mean, ci95, worst, loss = (_real(row, name) for name in names)
    return StepFigures(
        step=position,
        mean=mean,
        ci95=ci95,
        worst_decile=worst,
        loss=loss,
        # Older files have none.
        median=_real({"median": None, **row}, "median"),
        failed=_count({"failed_by_step": failed}, "failed_by_step", 0, episodes),
    )


def _count(raw: Mapping[str, Any], name: str, least: int, most: int = _MOST) -> int:
    value = raw[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        needed = f"{least}" if least == most else f"a whole number from {least} to {most}"
        raise ValueError(f"{name}: {needed} is needed, got {str(value)[:40]!r}")
    return value


def _real(raw: Mapping[str, Any], name: str) -> float:
    value = raw[name]
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e308:
        raise ValueError(f"{name}: a number is needed, got {str(value)[:40]!r}")
    return float(value)


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw[name]
    if not isinstance(value, str):
        raise ValueError(f"{name}: text is needed, got {str(value)[:40]!r}")
    return value


def _scores(
    path: Path, score: str, shape: tuple[int, int], notes: list[str]
) -> NDArray[np.float64] | None:
    try:
        most = min(shape[0] * shape[1], _MOST_ROWS)
        table = read_capped(
            path,
            columns=("episode", "step", score),
            max_rows=most,
            max_bytes=_TABLE_BYTES + _ROW_BYTES * most,
        )
        table = table.sort_by([("episode", "ascending"), ("step", "ascending")])
        column = table[score].to_numpy().astype(np.float64)
        if len(column) != shape[0] * shape[1]:
            raise ValueError(f"{shape[0]} episodes x {shape[1]} steps expected, got {len(column)}")
        places = (np.repeat(np.arange(shape[0]), shape[1]), np.tile(np.arange(shape[1]), shape[0]))
        for name, expected in zip(("episode", "step"), places, strict=True):
            if not np.array_equal(table[name].to_numpy(), expected):
                rows = f"episodes 0 to {shape[0] - 1}, steps 0 to {shape[1] - 1}"
                raise ValueError(f"its rows are not {rows}, each once")
        return np.asarray(column.reshape(shape), dtype=np.float64)
    except (DataError, pa.ArrowException, OSError, KeyError, ValueError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {error}.")
        return None
