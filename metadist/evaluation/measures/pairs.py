"""Verification of a learner on fixed episodes: each query with each support example of its episode.

The threshold is the best one on validation episodes. Workers share the episodes as they do in
evaluation, and each is computed in the same company by any number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from metadist.compute.collectives import Group
from metadist.compute.strategies import strategy
from metadist.context import Context
from metadist.errors import RecipeError
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import DRAWN, own_episodes
from metadist.evaluation.measures.roc import BINS, Pairs
from metadist.evaluation.protocols import EvalProtocol
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.objectives import ROC_AREA, Metric
from metadist.tasks import Params, Task

VERIFIED = Metric(
    "verification_accuracy",
    "verification accuracy",
    higher_is_better=True,
    percent=True,
    failed=0.0,
)


@dataclass(frozen=True)
class Verification:
    """Pairs of E episodes after 0 to K adaptation steps.

    Attributes:
        pairs: of all episodes, after each number of steps.
        accuracy: of each episode at the threshold, float64 [E, K + 1]; NaN without one.
    """

    pairs: Sequence[Pairs]
    accuracy: Tensor

    def told(self, result: Evaluation, threshold: int, part: str) -> Evaluation:
        """What evaluation has found, with this beside it.

        Args:
            threshold: its place, by which ``accuracy`` is.
            part: whose episodes have chosen it.
        """
        areas = [{ROC_AREA.name: pairs.area()} for pairs in self.pairs]
        pooled = result.pooled or [{}] * len(areas)
        return replace(
            result,
            metrics=(*result.metrics, VERIFIED),
            columns={**result.columns, VERIFIED.name: self.accuracy.numpy()},
            pooled=[{**one, **area} for one, area in zip(pooled, areas, strict=True)],
            verification=self.pairs[result.protocol.figure_step].facts(threshold, part),
        )


def pair_scores(
    trained: TrainedLearner, source: EpisodeSource, ids: Sequence[int], steps: int
) -> list[tuple[Tensor, Tensor]]:
    """Of each episode scores [K + 1, Q, S] of queries with support examples, and bool [Q, S]:
    whether a pair is of the same class.

    Raises:
        RecipeError: the learner has no scores of pairs.
    """
    learner, part = trained.learner, source.identity.part
    tasks = trained.tasks(source, ids)
    ctx = trained.context(part, steps)
    noise = [trained.noise(ctx, episode) for episode in tasks.ids]

    def one(task: Task, now: Context) -> list[Params]:
        query = task.visible_query(learner.needs)
        fitted = learner.adapt(trained.params, task.view(learner.needs), now)
        scores = [learner.pair_scores(after, query, now) for after in fitted]
        if any(score is None for score in scores):
            raise RecipeError(
                f"eval.verification needs a learner that gives pairs of examples a score; "
                f"{trained.recipe.algorithm.name} gives none (pair_scores); set it to false, or "
                "take another learner"
            )
        return [{"scores": score} for score in scores if score is not None]

    chunk = trained.recipe.eval.chunk
    how = strategy("vmap" if chunk > 1 else "loop", chunk)
    found = []
    with torch.no_grad():
        for start in range(0, len(tasks), chunk):
            now = tasks.slice(start, start + chunk)
            for row, after in enumerate(how.each(one, now, noise[start : start + chunk], ctx)):
                task = now.task(row)
                same = task.query.y[:, None] == task.support.y
                if task.query.mask is not None:
                    same = same[task.query.mask]
                scores = torch.stack([named["scores"] for named in after])
                if task.query.mask is not None:
                    scores = scores[:, task.query.mask]
                # A learner without steps scores the same after any number of them.
                scores = scores.expand(steps + 1, -1, -1) if len(scores) == 1 else scores
                found.append((scores.double().cpu(), same.cpu()))
    return found


def verify(
    trained: TrainedLearner,
    source: EpisodeSource,
    how: EvalProtocol,
    group: Group,
    threshold: int | None = None,
) -> Verification:
    """Count the pairs of the first episodes of ``source``, spread over the workers.

    Args:
        threshold: at which accuracy is measured.

    Raises:
        RecipeError: the learner has no scores of pairs.
    """
    count, chunk, rows = how.episodes, trained.recipe.eval.chunk, how.steps + 1
    counts = torch.zeros(rows, 2, BINS, dtype=torch.int64)
    accuracy = torch.zeros(count, rows, dtype=torch.float64)
    ids = own_episodes(count, chunk, group)
    size = chunk if chunk > 1 else DRAWN
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        for episode, (scores, same) in zip(
            some, pair_scores(trained, source, some, how.steps), strict=True
        ):
            for step, after in enumerate(scores):
                own = Pairs.of(after, same)
                counts[step] += own.counts
                right = np.nan if threshold is None else own.accuracy(threshold)
                accuracy[episode, step] = right
    # One worker wrote each row and the others hold zeros: the sum of the bit patterns is exact.
    group.sum_(accuracy.view(torch.int64))
    group.sum_(counts)
    return Verification([Pairs(of) for of in counts], accuracy)
