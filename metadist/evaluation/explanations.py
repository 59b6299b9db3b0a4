"""What the predictions of example episodes rest on, small enough to be kept with a run.

Features are projected to their two principal axes; of attention the rows of a few queries are kept,
of graphs that of one. Computed once, by one worker, of fixed episodes: the same bytes whenever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.learner import Explanation
from metadist.tasks import Task

#: Queries of an episode whose attention is kept; where there are more ways, one of each.
QUERIES = 15
#: Axes of a map.
AXES = 2


@dataclass(frozen=True)
class Plane:
    """The principal axes of some points (Pearson, 1901).

    Attributes:
        centre: [D], the mean of the points.
        axes: [D, 2], orthonormal, that of the largest variance first; the largest entry of each is
            above 0. Zeros where the points do not fill a plane.
        shares: [2], of the variance that lies along each axis.
    """

    centre: Tensor
    axes: Tensor
    shares: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Plane:
        """Of finite points [n, D], float64."""
        centre = points.mean(0)
        _, spread, axes = torch.linalg.svd(points - centre, full_matrices=False)
        # What is below is rounding, along axes that mean nothing.
        there = spread[:AXES] > 1e-12 * spread[0]
        axes = axes[:AXES] * there[:, None]
        signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        axes = (axes * signs).T
        variances = spread.square()
        shares = there * variances[:AXES] / variances.sum().clamp_min(torch.finfo().tiny)
        missing = AXES - len(shares)
        if missing:
            axes = torch.cat([axes, axes.new_zeros(len(axes), missing)], 1)
            shares = torch.cat([shares, shares.new_zeros(missing)])
        return cls(centre, axes, shares)

    def projected(self, points: Tensor) -> Tensor:
        """Where points [n, D] lie in it, [n, 2]."""
        return (points - self.centre) @ self.axes


def shown_queries(labels: Tensor, ways: int) -> list[int]:
    """Rows of the first few queries of each class, a query of each class after the other."""
    each = max(1, QUERIES // ways)
    of_way = [(labels == way).nonzero()[:each, 0].tolist() for way in range(ways)]
    return [int(of[turn]) for turn in range(each) for of in of_way if turn < len(of)]


def explanations(trained: TrainedLearner, source: EpisodeSource, count: int) -> dict[str, Tensor]:
    """What the learner tells of the first ``count`` episodes, after the steps of training.

    Returns:
        Nothing of a learner that tells nothing, and of functions. Else, float32 but for ``rows``:
        ``map.support`` [E, M, 2], ``map.query`` [E, Q, 2], perhaps ``map.prototypes`` [E, N, 2],
        and ``map.shares`` [E, 2] (see :class:`Plane`; NaN where a feature is not finite);
        ``rows`` int64 [E, R], the queries of which ``attention.<name>`` [E, R, M] is;
        ``adjacency.<name>`` [E, M + 1, M + 1] of the first of them; on the CPU.
    """
    learner, part = trained.learner, source.identity.part
    tasks = trained.tasks(source, range(count))
    kept: dict[str, list[Tensor]] = {}
    for place, episode in enumerate(tasks.ids):
        task = tasks.task(place)
        if task.query.y.is_floating_point():
            return {}
        fitted, now = trained.fit(task, part, episode, trained.recipe.inner.steps)
        with torch.no_grad():
            told = learner.explanation(fitted[-1], task.visible_query(learner.needs), now)
        if told is None:
            return {}
        for name, tensor in _kept(told, task).items():
            kept.setdefault(name, []).append(tensor.cpu())
    # Episodes of somebody else's may differ in how many queries there are of each class.
    least = min(map(len, kept["rows"]))
    return {name: _stacked(name, tensors, least) for name, tensors in kept.items()}


def _stacked(name: str, tensors: Sequence[Tensor], least: int) -> Tensor:
    if name == "rows" or name.startswith("attention."):
        tensors = [tensor[:least] for tensor in tensors]
    return torch.stack(list(tensors)).contiguous()


def _kept(told: Explanation, task: Task) -> dict[str, Tensor]:
    """Of one episode."""
    ways = int(task.support.y.max()) + 1
    rows = shown_queries(task.query.y, ways)
    sets = {"support": told.support, "query": told.query}
    if told.prototypes is not None:
        sets["prototypes"] = told.prototypes
    tensors = {f"map.{name}": points for name, points in _map(sets).items()}
    read = {f"attention.{name}": of[rows] for name, of in told.attention.items()}
    heard = {f"adjacency.{name}": of[rows[0]] for name, of in told.adjacency.items()}
    numbers = {**tensors, **read, **heard}
    floats = {name: tensor.to(torch.float32) for name, tensor in numbers.items()}
    return {"rows": torch.tensor(rows), **floats}


def _map(sets: dict[str, Tensor]) -> dict[str, Tensor]:
    """Support, queries and what else there is, in the plane of the first two."""
    flat = {name: features.double().flatten(1) for name, features in sets.items()}
    points = torch.cat([flat["support"], flat["query"]])
    if not all(bool(features.isfinite().all()) for features in flat.values()):
        lost = {name: f.new_full((len(f), AXES), torch.nan) for name, f in flat.items()}
        return {**lost, "shares": points.new_full((AXES,), torch.nan)}
    plane = Plane.of(points)
    found = {name: plane.projected(features) for name, features in flat.items()}
    return {**found, "shares": plane.shares}
