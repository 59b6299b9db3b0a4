"""Accuracy or error on fixed episodes of classes the learner has never seen.

Episodes are spread over the workers; each is computed alone, so the result is the same byte for
byte for any number of them. An episode whose outputs are not finite has failed, which is what a
learner that diverges comes to: its accuracy is 0; in regression it is counted beside the mean over
the rest. Of errors that explode and stay finite the median tells, which stands beside every mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from data_pipeline.formats.parquet import write_table
from data_pipeline.storage.local import write_atomic
from metadist.compute.collectives import Group
from metadist.evaluation.protocols import EvalProtocol
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.objectives import Score, accuracy, score_name, task_loss
from metadist.runs.classes import classes_file, write_classes
from metadist.runs.record import encode
from metadist.statistics.classes import EpisodeClasses
from metadist.statistics.format import finite
from metadist.tasks import Task, TaskKind

if TYPE_CHECKING:
    from metadist.episode_data import EpisodeData

#: Episodes drawn from the source at once.
CHUNK = 8


@dataclass(frozen=True)
class Evaluation:
    """Results on E episodes after 0 to K adaptation steps.

    Attributes:
        trained_steps: adaptation steps of training; None for learners with different ones.
        score: float64 [E, K + 1]: accuracy (0 where failed) or mean squared error (NaN where
            failed).
        loss: float64 [E, K + 1], NaN where not finite.
        failed: bool [E, K + 1]: an output was not finite.
        episode_digest: what decides the bits of the episodes.
        classes: that the episodes are of; None of functions, and where nobody asks.
    """

    protocol: EvalProtocol
    kind: TaskKind
    trained_steps: int | None
    score: NDArray[np.float64]
    loss: NDArray[np.float64]
    failed: NDArray[np.bool_]
    episode_digest: str
    classes: EpisodeClasses | None = None

    @classmethod
    def of(
        cls,
        table: Tensor,
        protocol: EvalProtocol,
        kind: TaskKind,
        trained_steps: int | None,
        episode_digest: str,
    ) -> Evaluation:
        """From a table float64 [E, K + 1, 3] of what :func:`score` returns."""
        score, loss, failed = table.unbind(2)
        columns = score.numpy(), loss.numpy(), failed.numpy() > 0
        return cls(protocol, kind, trained_steps, *columns, episode_digest)

    def with_classes(self, data: EpisodeData) -> Evaluation:
        """The same, knowing which classes of ``data`` its episodes are of."""
        how = self.protocol
        return replace(self, classes=data.classes(how.part, how.episodes, how.seed, how.ways))

    @property
    def score_name(self) -> Score:
        """What is measured."""
        return score_name(self.kind)

    @property
    def figure(self) -> dict[str, float]:
        """The protocol's figure: :meth:`at` the number of steps it is about."""
        return self.at(self.protocol.figure_step)

    @property
    def failures(self) -> int:
        """Episodes that have failed after the number of steps that the figure is about."""
        return int(self.failed[:, self.protocol.figure_step].sum())

    @property
    def ci95_classes(self) -> float:
        """Half-width of the figure's interval over new classes; NaN where there is none."""
        step = self.protocol.figure_step
        if self.classes is None:
            return math.nan
        return float(self.classes.ci95(self.score[:, step : step + 1])[0])

    @property
    def of_classes(self) -> dict[str, Any]:
        """What stands beside the figure of classes: how many, and the interval over new ones."""
        if self.classes is None:
            return {}
        return {**self.classes.told(), "ci95_classes": finite(self.ci95_classes)}

    def at(self, step: int) -> dict[str, float]:
        """Mean, 95 % confidence half-width, median and worst decile after ``step`` steps.

        The interval is 1.96 standard deviations (over episodes, ddof 0) over the root of their
        number. The worst decile is the mean over the worst tenth of the episodes. The median is
        over all episodes, a failed one being worse than any other; infinite if that is half of
        them.
        """
        column, failed = self.score[:, step], self.failed[:, step]
        regression = self.kind == "regression"
        median = _median(np.where(failed, math.inf, column) if regression else column)
        kept = column[~failed] if regression else column
        if not len(kept):
            names = ("mean", "ci95", "worst_decile", "loss")
            return {**dict.fromkeys(names, math.nan), "median": median}
        ordered = np.sort(kept)
        tenth = max(1, len(kept) // 10)
        worst = ordered[-tenth:] if regression else ordered[:tenth]
        losses = self.loss[~failed, step]
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = float(kept.std())  # errors of 1e200 have none that is finite
        return {
            "mean": _mean(kept),
            # One episode says nothing of its spread.
            "ci95": 1.96 * deviation / math.sqrt(len(kept)) if len(kept) > 1 else math.nan,
            "worst_decile": _mean(worst),
            "loss": _mean(losses) if len(losses) else math.nan,
            "median": median,
        }

    def summary(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What ``evaluation/<name>.json`` holds; no times, places or numbers of workers."""
        protocol = self.protocol
        return {
            "part": protocol.part,
            **({"ways": protocol.ways} if protocol.other_ways else {}),
            "shots": protocol.shots,
            "queries": protocol.queries,
            "kind": self.kind,
            "score": self.score_name,
            "episodes": len(self.score),
            "failed": self.failures,
            "failed_by_step": [int(n) for n in self.failed.sum(0)],
            "episode_digest": self.episode_digest,
            "trained_steps": self.trained_steps,
            "figure_step": protocol.figure_step,
            "by_step": [
                {"step": k, **{n: finite(v) for n, v in self.at(k).items()}}
                for k in range(self.score.shape[1])
            ],
            **facts,
        }


def _mean(values: NDArray[np.float64]) -> float:
    """The mean, rounded once."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # the sum is beyond float64, the mean need not be
        return math.fsum(v / len(values) for v in values.tolist())


def _median(values: NDArray[np.float64]) -> float:
    ordered = np.sort(values).tolist()
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low / 2 + high / 2)


def score(kind: TaskKind, outputs: Tensor, targets: Tensor) -> tuple[float, float, bool]:
    """(score, loss, failed) of predictions, in float64.

    Args:
        outputs: logits [Q, N] or values [Q, E].
        targets: labels int64 [Q] or values [Q, E].
    """
    outputs = outputs.double()
    loss = float(task_loss(kind, outputs, targets.double() if kind == "regression" else targets))
    if not (bool(torch.isfinite(outputs).all()) and math.isfinite(loss)):
        return failed_score(kind)
    return (float(accuracy(outputs, targets)) if kind == "classification" else loss), loss, False


def failed_score(kind: TaskKind) -> tuple[float, float, bool]:
    """(score, loss, failed) of an episode that has failed."""
    return (0.0 if kind == "classification" else math.nan), math.nan, True


def predictions(
    trained: TrainedLearner, source: EpisodeSource, ids: Sequence[int], steps: int
) -> Iterator[tuple[Task, list[Tensor]]]:
    """Each episode's task, and the outputs for its queries after 0, 1, … ``steps`` steps.

    A learner that does not adapt by steps predicts the same after any number of them.
    """
    for start in range(0, len(ids), CHUNK):
        tasks = trained.tasks(source, ids[start : start + CHUNK])
        for row, index in enumerate(tasks.ids):
            task = tasks.task(row)
            outputs = trained.outputs(task, tasks.info_of(row), source.identity.part, index, steps)
            yield task, outputs * (steps + 1) if len(outputs) == 1 else outputs


def adapts_by_steps(trained: TrainedLearner, source: EpisodeSource) -> bool:
    """Whether the learner takes adaptation steps; found out on the first episode."""
    tasks = trained.tasks(source, [0])
    outputs = trained.outputs(tasks.task(0), tasks.info_of(0), source.identity.part, 0, 1)
    return len(outputs) > 1


def evaluate(
    trained: TrainedLearner,
    source: EpisodeSource,
    protocol: EvalProtocol,
    kind: TaskKind,
    group: Group,
) -> Evaluation:
    """Adapt to and score the first episodes of ``source``, spread over the workers."""
    count, steps = protocol.episodes, protocol.steps
    table = torch.zeros(count, steps + 1, 3, dtype=torch.float64)
    ids = range(group.rank * count // group.size, (group.rank + 1) * count // group.size)
    for index, (task, outputs) in zip(ids, predictions(trained, source, ids, steps), strict=True):
        rows = [score(kind, o, task.query_y) for o in outputs]
        table[index] = torch.tensor(rows, dtype=torch.float64)
    # One worker wrote each row and the others hold zeros: the sum of the bit patterns is exact.
    group.sum_(table.view(torch.int64))
    digest = source.identity.digest
    return Evaluation.of(table, protocol, kind, trained.recipe.inner.steps, digest)


def columns(result: Evaluation, suffix: str = "") -> dict[str, pa.Array]:
    """Score, loss and failure of every episode and step."""
    return {
        f"{result.score_name}{suffix}": pa.array(result.score.reshape(-1), pa.float64()),
        f"loss{suffix}": pa.array(result.loss.reshape(-1), pa.float64()),
        f"failed{suffix}": pa.array(result.failed.reshape(-1), pa.bool_()),
    }


def write_evaluation(
    directory: Path,
    result: Evaluation,
    facts: Mapping[str, Any],
    more: Mapping[str, pa.Array] | None = None,
) -> None:
    """``<protocol>.json`` and ``.parquet``: figures, and a row per episode and step.

    Where the episodes are of classes, ``<protocol>.classes.parquet`` says of which.

    Args:
        facts: what else the figures depend on.
        more: further columns of the table.
    """
    name = result.protocol.name
    episodes, steps = result.score.shape
    table = pa.table(
        {
            "episode": pa.array(np.repeat(np.arange(episodes), steps), pa.int64()),
            "step": pa.array(np.tile(np.arange(steps), episodes), pa.int64()),
            **columns(result),
            **(more or {}),
        }
    )
    write_table(directory / f"{name}.parquet", table)
    if result.classes is not None:
        write_classes(classes_file(directory, name), result.classes)
    write_atomic(directory / f"{name}.json", encode(result.summary(facts)))


def examples(
    trained: TrainedLearner, source: EpisodeSource, count: int, steps: int
) -> dict[str, Tensor]:
    """The first ``count`` episodes with the outputs after every adaptation step.

    Queries of functions are sorted by their first input so that they draw as lines.

    Returns:
        ids [E], support_x, support_y, query_x, query_y as in a task, outputs [E, K + 1, Q, N], or
        [E, 1, Q, N] of a learner that does not adapt by steps; on the CPU.
    """
    tasks = trained.tasks(source, range(count))
    tensors: dict[str, list[Tensor]] = {}
    for index in range(count):
        task = tasks.task(index)
        if task.query_x.dim() == 2:
            order = task.query_x[:, 0].argsort(stable=True)
            task = replace(task, query_x=task.query_x[order], query_y=task.query_y[order])
        outputs = trained.outputs(task, tasks.info_of(index), source.identity.part, index, steps)
        for name in ("support_x", "support_y", "query_x", "query_y"):
            tensors.setdefault(name, []).append(getattr(task, name))
        tensors.setdefault("outputs", []).append(torch.stack(outputs))
    stacked = {name: torch.stack(parts).cpu().contiguous() for name, parts in tensors.items()}
    stacked["ids"] = torch.tensor(tasks.ids)
    return stacked


def write_examples(directory: Path, tensors: dict[str, Tensor]) -> None:
    """``examples.safetensors``: what :func:`examples` returns."""
    write_atomic(directory / "examples.safetensors", safetensors.torch.save(tensors))
