"""The rows of an evaluation, written episode by episode and summed exactly over workers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from metadist.compute.collectives import Group
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.protocols import EvalProtocol
from metadist.objectives import Objective
from metadist.tasks import Examples, Prediction


class ScoreTable:
    """What an objective says of predictions, float64 [E, K + 1, metrics, loss and failure].

    Args:
        objective: by which they are judged.
        how: the protocol; its number of episodes is E, of adaptation steps K.
    """

    def __init__(self, objective: Objective, how: EvalProtocol) -> None:
        self._objective, self._how = objective, how
        self._names = [metric.name for metric in objective.metrics]
        rows = how.episodes, how.steps + 1
        self._rows = torch.zeros(*rows, len(self._names) + 2, dtype=torch.float64)
        self._counts = {
            name: torch.zeros(how.steps + 1, *shape, dtype=torch.int64)
            for name, shape in objective.count_shapes.items()
        }

    def write(self, episode: int, step: int, prediction: Prediction, target: Examples) -> bool:
        """Judge what was predicted for an episode after so many steps; whether it is finite.

        Args:
            target: the queries with their targets.
        """
        objective, p = self._objective, prediction.double()
        exact = target.with_y(target.y.double()) if target.y.is_floating_point() else target
        loss = float(objective.loss(p, exact))
        whole = all(bool(torch.isfinite(t).all()) for t in p.tensors().values())
        if not (whole and math.isfinite(loss)):
            self.fail(episode, step)
            return False
        scores = objective.checked_score(p, exact)
        row = [*(float(scores[name]) for name in self._names), loss, 0.0]
        if not all(map(math.isfinite, row)):
            self.fail(episode, step)
            return False
        self._rows[episode, step] = torch.tensor(row, dtype=torch.float64)
        for name, count in objective.checked_counts(p, exact).items():
            self._counts[name][step] += count.cpu()
        return True

    def fail(self, episode: int, step: int) -> None:
        """An episode whose prediction is none."""
        row = [*(metric.failed for metric in self._objective.metrics), math.nan, 1.0]
        self._rows[episode, step] = torch.tensor(row, dtype=torch.float64)

    def write_all(self, episode: int, predictions: Sequence[Prediction], target: Examples) -> None:
        """Judge what was predicted after 0, 1, … K steps."""
        for step, prediction in enumerate(predictions):
            self.write(episode, step, prediction, target)

    def sum(self, group: Group) -> None:
        """Together with what the other workers have written, of other episodes."""
        # One worker wrote each row and the others hold zeros: the sum of the bit patterns is exact.
        group.sum_(self._rows.view(torch.int64))
        for count in self._counts.values():
            group.sum_(count)

    def evaluation(
        self, trained_steps: int | None, episode_digest: str, needs: frozenset[str] = frozenset()
    ) -> Evaluation:
        """What was found; see :class:`Evaluation`."""
        objective, parts = self._objective, [t.numpy() for t in self._rows.unbind(2)]
        pooled = [
            objective.checked_pooled({name: count[step] for name, count in self._counts.items()})
            for step in range(self._how.steps + 1)
        ]
        return Evaluation(
            protocol=self._how,
            kind=objective.name,
            metrics=objective.metrics,
            trained_steps=trained_steps,
            columns=dict(zip([*self._names, "loss"], parts[:-1], strict=True)),
            failed=parts[-1] > 0,
            episode_digest=episode_digest,
            needs=needs,
            pooled=pooled,
        )
