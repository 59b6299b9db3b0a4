"""Learners judged on fixed episodes of classes they have never seen.

Episodes are spread over the workers; each is computed alone, or in a chunk of always the same
episodes (``eval.chunk``), so the result is the same byte for byte for any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from data_pipeline.formats.parquet import write_table
from data_pipeline.storage.local import write_atomic
from metadist.compute.collectives import Group
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.protocols import EvalProtocol
from metadist.evaluation.score_table import ScoreTable
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.runs.classes import classes_file, write_classes
from metadist.runs.record import encode
from metadist.tasks import TRAINING_ONLY, Prediction, Task

#: Episodes drawn from the source at once, where they are computed one by one.
DRAWN = 8


def predictions(
    trained: TrainedLearner, source: EpisodeSource, ids: Sequence[int], steps: int
) -> Iterator[tuple[Task, list[Prediction]]]:
    """Each episode's task, and what is predicted for its queries after 0, 1, … ``steps`` steps.

    A learner that does not adapt by steps predicts the same after any number of them.
    """
    chunk = trained.recipe.eval.chunk
    size = chunk if chunk > 1 else DRAWN
    for start in range(0, len(ids), size):
        tasks = trained.tasks(source, ids[start : start + size])
        found = trained.predict(tasks, source.identity.part, steps)
        for row, after in enumerate(found):
            yield tasks.task(row), after * (steps + 1) if len(after) == 1 else after


def adapts_by_steps(trained: TrainedLearner, source: EpisodeSource) -> bool:
    """Whether the learner takes adaptation steps; found out on the first episode."""
    (after,) = trained.predict(trained.tasks(source, [0]), source.identity.part, 1)
    return len(after) > 1


def own_episodes(count: int, chunk: int, group: Group) -> range:
    """The episodes of this worker among so many.

    Whole chunks, so that an episode is computed in the same company by any number of workers.
    """
    chunks = -(-count // chunk)
    first, last = (chunk * (rank * chunks // group.size) for rank in (group.rank, group.rank + 1))
    return range(first, min(last, count))


def evaluate(
    trained: TrainedLearner, source: EpisodeSource, how: EvalProtocol, group: Group
) -> Evaluation:
    """Adapt to and score the first episodes of ``source``, spread over the workers."""
    count, chunk = how.episodes, trained.recipe.eval.chunk
    table = ScoreTable(trained.learner.objective, how)
    ids = own_episodes(count, chunk, group)
    for index, (task, found) in zip(ids, predictions(trained, source, ids, how.steps), strict=True):
        table.write_all(index, found, task.query)
    table.sum(group)
    # What is known in training only was not told here.
    needs = trained.learner.needs - TRAINING_ONLY
    return table.evaluation(trained.recipe.inner.steps, source.identity.digest, needs)


def columns(result: Evaluation, suffix: str = "") -> dict[str, pa.Array]:
    """Score, loss and failure of every episode and step, then what else was measured."""
    first, *others = (metric.name for metric in result.metrics)
    numbers = {
        f"{name}{suffix}": pa.array(result.columns[name].reshape(-1), pa.float64())
        for name in (first, "loss", *others)
    }
    failed = {f"failed{suffix}": pa.array(result.failed.reshape(-1), pa.bool_())}
    return {n: numbers.pop(n) for n in list(numbers)[:2]} | failed | numbers


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
    predicted = trained.predict(tasks, source.identity.part, steps)
    tensors: dict[str, list[Tensor]] = {}
    for index, after in enumerate(predicted):
        task = tasks.task(index)
        order = torch.arange(len(task.query), device=task.query.x.device)
        if task.query.x.dim() == 2:
            order = task.query.x[:, 0].argsort(stable=True)
        found = {"outputs": torch.stack([p.mean[order] for p in after])}
        if scales := [p.scale[order] for p in after if p.scale is not None]:
            found["scales"] = torch.stack(scales)
        shown = {
            "support_x": task.support.x,
            "support_y": task.support.y,
            "query_x": task.query.x[order],
            "query_y": task.query.y[order],
            **found,
        }
        for name, tensor in shown.items():
            tensors.setdefault(name, []).append(tensor)
    stacked = {name: torch.stack(parts).cpu().contiguous() for name, parts in tensors.items()}
    stacked["ids"] = torch.tensor(tasks.ids)
    return stacked
