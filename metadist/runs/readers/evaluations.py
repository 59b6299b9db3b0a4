"""Results of protocols: ``evaluation/<protocol>.json``, ``.parquet`` and ``.classes.parquet``."""

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
from metadist.errors import RunError
from metadist.objectives import BUILT_IN, Metric, known_metric, metric_name
from metadist.recipe.schema import Recipe
from metadist.runs.classes import classes_file, read_classes
from metadist.runs.readers.fields import count, mapping, real, reals, text
from metadist.runs.readers.verification import StoredVerification, read_verification
from metadist.runs.record import UNREADABLE
from metadist.runs.run_dir import RunDir
from metadist.statistics.classes import EpisodeClasses, few_classes, of_classes
from metadist.statistics.instances import ByInstance
from metadist.statistics.paired import Rows

#: Nobody evaluates more episodes x steps; three numbers each, and a table's fixed part.
_MOST_ROWS, _ROW_BYTES, _TABLE_BYTES = 1 << 24, 128, 1 << 20
#: Of a metric's name and title.
_MOST_LETTERS = 80


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
class FurtherFigures:
    """Figures of another metric than the one that decides, after each number of steps.

    Attributes:
        mean: or what is pooled over all episodes.
        ci95: NaN where there is none, as of what is pooled.
        pooled: over all episodes, so that no single one has it.
    """

    metric: Metric
    mean: tuple[float, ...]
    ci95: tuple[float, ...]
    pooled: bool = False


@dataclass(frozen=True)
class StoredEvaluation:
    """Results of one evaluation protocol.

    Attributes:
        name: as its files are called.
        objective: by which it was judged.
        labels: whether labels are predicted, so that queries are counted per class.
        metric: what a score is.
        figure_step: the number of steps whose figure is the protocol's.
        further: figures of other metrics, and what is pooled over all episodes.
        scores: float64 [E, K + 1]: each episode's score after each step; None if not read.
        classes: of the episodes; None of functions, if not readable, and if not recorded.
        verification: of pairs of examples; None if nobody asked.
        by_instance: of a learner that predicts in sequence.
    """

    name: str
    part: str
    queries: int
    objective: str
    labels: bool
    metric: Metric
    episodes: int
    failed: int
    trained_steps: int
    figure_step: int
    episode_digest: str
    norm: str
    recipe_hash: Any
    checkpoint_step: int
    checkpoint_sha256: str
    steps: tuple[StepFigures, ...]
    further: tuple[FurtherFigures, ...] = ()
    scores: NDArray[np.float64] | None = None
    classes: EpisodeClasses | None = None
    verification: StoredVerification | None = None
    by_instance: ByInstance | None = None

    @property
    def figure(self) -> StepFigures:
        """The protocol's figures."""
        return self.steps[self.figure_step]

    @property
    def rows(self) -> Rows | None:
        """The score of each episode, after the steps that the figure is about; None if not read."""
        if self.scores is None:
            return None
        return Rows(self.episode_digest, self.metric, self.scores[:, self.figure_step])

    @property
    def of_each_episode(self) -> list[str]:
        """Names of the metrics that every episode has, the one that decides first."""
        return [self.metric.name, *(own.metric.name for own in self.further if not own.pooled)]

    def by(self, name: str) -> StoredEvaluation:
        """The same, decided by another metric of each episode; without scores, which are not its.

        Raises:
            RunError: no episode has such a metric.
        """
        if name == self.metric.name:
            return self
        if name not in self.of_each_episode:
            told = ", ".join(self.of_each_episode)
            raise RunError(f"episodes of {self.name} have no metric {name!r}; they have {told}")
        own = next(one for one in self.further if one.metric.name == name)
        steps = tuple(
            StepFigures(step.step, mean, ci95, math.nan, step.loss, failed=step.failed)
            for step, mean, ci95 in zip(self.steps, own.mean, own.ci95, strict=True)
        )
        mean, ci95 = zip(*((step.mean, step.ci95) for step in self.steps), strict=True)
        former = FurtherFigures(self.metric, mean, ci95)
        further = (former, *(one for one in self.further if one is not own))
        return replace(self, metric=own.metric, steps=steps, further=further, scores=None)

    @property
    def of_classes(self) -> str:
        """`` of 423 classes``; nothing where they are not known."""
        return of_classes(self.classes.told(), labels=True) if self.classes else ""

    @property
    def few_classes(self) -> str:
        """A warning if the classes are few; empty if not, or if they are not known."""
        known = self.classes
        return few_classes(known.count, known.ways, self.part) if known else ""


def own_names(recipe: Recipe) -> list[str]:
    """Names of the recipe's own protocols on test episodes, its main one first."""
    return [f"test-{queries}q" for queries in recipe.protocols]


def evaluation_names(run: RunDir) -> list[str]:
    """Names of the protocols that a run has results of."""
    return sorted(p.stem for part in ("test", "val") for p in run.evaluation.glob(f"{part}-*.json"))


def read_figures(run: RunDir, name: str) -> StoredEvaluation:
    """Read the figures of a protocol alone, without the scores they were made of.

    Raises:
        RunError: they are missing or damaged.
    """
    path = run.evaluation / f"{name}.json"
    try:
        return _figures(run, path)
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error!r})") from None


def read_own_figures(run: RunDir, recipe: Recipe, name: str) -> StoredEvaluation:
    """The figures of a protocol, of the checkpoint that the run's main evaluation is of.

    Raises:
        RunError: there are none, they are damaged, or they are of another checkpoint, as those of
            a run that was evaluated before it ended.
    """
    own = own_names(recipe)[0]
    found, main = read_figures(run, name), read_figures(run, own)
    if main.recipe_hash != recipe.hash:
        raise RunError(f"{run.evaluation / own}.json: of another recipe than the run's")
    path = run.evaluation / f"{name}.json"
    if found.recipe_hash != main.recipe_hash:
        raise RunError(f"{path}: of another recipe hash than {own}.json")
    of, expected = ((e.checkpoint_step, e.checkpoint_sha256) for e in (found, main))
    if of != expected:
        raise RunError(f"{path}: of another checkpoint than {own}.json")
    return found


def read_evaluation(
    run: RunDir, name: str, notes: list[str], metric: str | None = None
) -> StoredEvaluation | None:
    """Read the results of a protocol with scores and classes; what cannot be read is noted.

    Args:
        metric: to take for the one that decides, if another.

    Raises:
        RunError: episodes have no such metric.
    """
    path = run.evaluation / f"{name}.json"
    try:
        found = _figures(run, path)
        found = found.by(metric) if metric else found
        shape = (found.episodes, len(found.steps))
        scores = _scores(path.with_suffix(".parquet"), found.metric.name, shape, notes)
        return _with_classes(replace(found, scores=scores), path.parent, notes)
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {type(error).__name__}: {error}.")
        return None


def _figures(run: RunDir, path: Path) -> StoredEvaluation:
    raw = read_json(path)
    episodes = count(raw["episodes"], "episodes", 1)
    part, queries = text(raw["part"], "part"), count(raw["queries"], "queries", 1)
    if not (path.stem.startswith(f"{part}-") and path.stem.endswith(f"-{queries}q")):
        raise ValueError(f"it is of part {part!r} and {queries} queries, its name says otherwise")
    metric = read_metric(raw)
    if len(raw["failed_by_step"]) != len(raw["by_step"]) or not raw["by_step"]:
        raise ValueError("by_step and failed_by_step need as many entries, and at least one")
    rows = zip(raw["by_step"], raw["failed_by_step"], strict=True)
    steps = tuple(_step(k, row, failed, episodes) for k, (row, failed) in enumerate(rows))
    trained = count(raw["trained_steps"], "trained_steps")
    # Older files are about the trained number of steps.
    about = raw.get("figure_step", min(trained, len(steps) - 1))
    checkpoint = raw["checkpoint"]
    return StoredEvaluation(
        name=path.stem,
        part=part,
        queries=queries,
        objective=text(raw["kind"], "kind"),
        labels=_labels(run, metric),
        metric=metric,
        episodes=episodes,
        failed=count(raw["failed"], "failed", 0, episodes),
        trained_steps=trained,
        figure_step=count(about, "figure_step", 0, len(steps) - 1),
        episode_digest=text(raw["episode_digest"], "episode_digest"),
        norm=text(raw["norm"], "norm"),
        recipe_hash=raw.get("recipe_hash"),
        checkpoint_step=count(checkpoint["step"], "checkpoint.step"),
        checkpoint_sha256=text(checkpoint["params_sha256"], "checkpoint.params_sha256"),
        steps=steps,
        further=read_further(raw),
        verification=read_verification(raw),
        by_instance=ByInstance.read(raw["by_instance"]) if "by_instance" in raw else None,
    )


def read_metric(raw: Mapping[str, Any]) -> Metric:
    """What the scores of a protocol are, from its summary; raises ValueError."""
    name, told = text(raw["score"], "score"), raw.get("metric")
    return _short(known_metric(name, None if told is None else mapping(told, "metric")))


def metric_facts(metric: Metric) -> dict[str, Any]:
    """What a record that names a metric says of it beside; nothing of one that is built in."""
    return {} if metric.name in BUILT_IN else {"metric": metric.as_dict()}


def _labels(run: RunDir, metric: Metric) -> bool:
    """Whether labels are predicted; by the metric where the recipe is damaged."""
    try:
        return run.recipe().data.ways > 0
    except UNREADABLE:
        return metric.percent


def read_further(raw: Mapping[str, Any]) -> tuple[FurtherFigures, ...]:
    """The other metrics of a protocol, then what is pooled, from its summary; raises ValueError."""
    steps, found = len(raw["by_step"]), []
    for name, own in mapping(raw.get("metrics", {}), "metrics").items():
        metric_name(name)
        mean, ci95 = (reals(mapping(own, name)[key], f"{name}.{key}") for key in ("mean", "ci95"))
        found.append(FurtherFigures(described(name, own.get("metric")), mean, ci95))
    for name, values in mapping(raw.get("pooled", {}), "pooled").items():
        metric_name(name)
        mean, none = reals(values, name), (math.nan,) * steps
        found.append(FurtherFigures(described(name), mean, none, pooled=True))
    for one in found:
        if not len(one.mean) == len(one.ci95) == steps:
            raise ValueError(f"{one.metric.name}: {steps} figures expected, one for each step")
    return tuple(found)


def described_in(info: Mapping[str, Any], name: str) -> Metric:
    """A metric in the log of a run, by its run.json."""
    learner = info.get("learner")
    told = learner.get("metrics") if isinstance(learner, Mapping) else None
    return described(name, told.get(name) if isinstance(told, Mapping) else None)


def described(name: str, told: Any = None) -> Metric:
    """A metric by its name; where the record says no more, that has to do."""
    try:
        return _short(known_metric(name, told if isinstance(told, Mapping) else None))
    except (KeyError, TypeError, ValueError):
        return _short(Metric(name, name.replace("_", " "), higher_is_better=False))


def _short(metric: Metric) -> Metric:
    """With a name and title that fit a line, whatever a file says."""
    name, title = metric.name[:_MOST_LETTERS], metric.title[:_MOST_LETTERS]
    return replace(metric, name=name, title=title)


def _with_classes(found: StoredEvaluation, directory: Path, notes: list[str]) -> StoredEvaluation:
    """The same with the classes of its episodes and what follows from them."""
    if not found.labels:
        return found
    path = classes_file(directory, found.name)
    try:
        classes = read_classes(path, found.episodes)
    except DataError as error:
        notes.append(f"evaluation/{path.name} cannot be read: {error}.")
        return found
    if classes is None or found.scores is None or not np.isfinite(found.scores).all():
        return replace(found, classes=classes)
    steps = zip(found.steps, classes.ci95(found.scores), strict=True)
    told = tuple(replace(step, ci95_classes=float(half)) for step, half in steps)
    return replace(found, classes=classes, steps=told)


def _step(position: int, row: Mapping[str, Any], failed: Any, episodes: int) -> StepFigures:
    count(row["step"], "step", position, position)
    numbers = {name: real(row[name], name) for name in ("mean", "ci95", "worst_decile", "loss")}
    return StepFigures(
        step=position,
        **numbers,
        median=real(row.get("median"), "median"),  # older files have none
        failed=count(failed, "failed_by_step", 0, episodes),
    )


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
