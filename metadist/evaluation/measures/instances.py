"""Learners that predict in sequence, judged by instance on test episodes.

An episode's support and query examples are put in one order, which its id and ``eval.seed`` decide,
and every example is predicted by those before it and their labels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from metadist.compute.collectives import Group
from metadist.compute.learners import episode_key
from metadist.compute.strategies import strategy
from metadist.context import Context
from metadist.evaluation.evaluator import DRAWN, own_episodes
from metadist.evaluation.protocols import EvalProtocol
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.inner.blocks.sequence import PredictsSequences, order_noise, task_in_sequence
from metadist.runs.checkpoints import move
from metadist.statistics.instances import ByInstance
from metadist.tasks import Examples, Task, TaskBatch


def by_instance(
    trained: TrainedLearner, source: EpisodeSource, how: EvalProtocol, group: Group
) -> ByInstance | None:
    """Accuracy by instance on the episodes of a protocol, spread over the workers.

    Returns:
        The same for any number of workers; None of a learner that does not predict in sequence.
    """
    learner, recipe = trained.learner, trained.recipe
    if not isinstance(learner, PredictsSequences):
        return None
    chunk = recipe.eval.chunk
    ctx = trained.context(source.identity.part, 0)
    computed = strategy("vmap" if chunk > 1 else "loop", chunk)

    def one(task: Task, now: Context) -> list[dict[str, Tensor]]:
        shown = task.support
        predicted = learner.sequence_predictions(trained.params, shown, now)
        return [predicted.tensors()]

    longest = how.ways * (how.shots + how.queries)
    counts = torch.zeros(2, longest + 1, dtype=torch.int64)
    ids = own_episodes(how.episodes, chunk, group)
    size = chunk if chunk > 1 else DRAWN
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        rows = in_sequence(trained, source, some)
        noise = [trained.noise(ctx, episode) for episode in some]
        with torch.no_grad():
            for first in range(0, len(some), chunk):
                part = rows.slice(first, first + chunk)
                found = computed.each(one, part, noise[first : first + chunk], ctx)
                for row, (tensors,) in enumerate(found):
                    counts += counted(part.task(row).support, tensors["mean"], longest).cpu()
    group.sum_(counts)
    while counts.shape[1] > 1 and not int(counts[1, -1]):
        counts = counts[:, :-1]
    right, shown = cast(list[list[int]], counts.tolist())
    return ByInstance.of(right, shown)


def in_sequence(trained: TrainedLearner, source: EpisodeSource, ids: range) -> TaskBatch:
    """Episodes whose support set is all their examples, in the order in which they are shown."""
    tasks, part = trained.tasks(source, ids), source.identity.part
    rows: dict[str, list[Tensor]] = {}
    for row, episode in enumerate(tasks.ids):
        key = episode_key(trained.recipe, part, 0, episode)
        noise = move({"order": order_noise(key)}, trained.device)
        shown = task_in_sequence(tasks.task(row), noise["order"])
        rows.setdefault("support_x", []).append(shown.x)
        rows.setdefault("support_y", []).append(shown.y)
        if shown.mask is not None:
            rows.setdefault("support_mask", []).append(shown.mask)
    return TaskBatch(tasks.ids, {name: torch.stack(each) for name, each in rows.items()})


def counted(shown: Examples, logits: Tensor, longest: int) -> Tensor:
    """Right answers and examples, int64 [2, longest + 1]: of the first example, of each instance.

    Args:
        shown: examples in order, with y int64 [T].
        logits: [T, N] or more; ones that are not numbers are wrong answers.
        longest: instances that are counted.
    """
    same = shown.y[:, None] == shown.y
    there = torch.ones_like(shown.y, dtype=torch.bool) if shown.mask is None else shown.mask
    instance = (same & there).tril().sum(1)
    right = (logits.argmax(1) == shown.y) & ~logits.isnan().any(1)
    places = torch.arange(longest + 1, device=logits.device)
    of = (instance[:, None] == places) & there[:, None] & (places > 0)
    found = torch.stack([(of & right[:, None]).sum(0), of.sum(0)])
    found[:, 0] = torch.stack([right[0], there[0]])
    return found
