"""A trained learner and a task that nobody drew: what is said to it, and what it answers.

All that passes between :mod:`metadist.evaluation.inference` and a learner passes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from metadist.compute.determinism import reproducible
from metadist.context import Context
from metadist.errors import AdaptError
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.inner.inner_loop import AdaptedModel
from metadist.inner.inner_optimizer import PREFIX
from metadist.tasks import Examples, Params, Prediction, Task, Unlabeled, to_inputs

#: The random numbers of a learner that draws some are those of the test episode of this id.
EPISODE = 0
#: Queries of one pass of the network, where they do not depend on each other.
PASS = 512
#: What predicts after 0, 1, … steps, and what it must know.
Fitted = tuple[Sequence[Any], Context]


@dataclass(frozen=True, eq=False)
class Adaptation:
    """A learner after adaptation to a support set.

    Attributes:
        asked: adaptation steps that were asked for; None: as trained.
        now: what predicts; None: the learner wants to see the queries when it adapts.
    """

    trained: TrainedLearner
    support: Examples
    unlabeled: Unlabeled | None
    asked: int | None
    now: Fitted | None = None

    @classmethod
    def of(
        cls,
        trained: TrainedLearner,
        x: NDArray[Any],
        y: NDArray[Any],
        unlabeled: NDArray[Any] | None,
        steps: int | None,
    ) -> Adaptation:
        """Adapt to prepared examples x, and y as :class:`Targets` has them.

        Raises:
            AdaptError: steps were asked of a learner that takes none.
        """
        targets = torch.from_numpy(y).to(trained.device)
        if targets.dtype != torch.int64:
            targets = targets.to(_dtype(trained))
        support = Examples(_inputs(trained, x), targets, name="support")
        more = None
        if unlabeled is not None:
            more = Unlabeled(_inputs(trained, unlabeled), name="unlabeled")
        waiting = cls(trained, support, more, steps)
        if "query_x" in trained.learner.needs:
            return waiting
        return cls(trained, support, more, steps, waiting._fit(None))

    @property
    def steps(self) -> int:
        """Adaptation steps to take."""
        return self.trained.recipe.inner.steps if self.asked is None else self.asked

    @property
    def steps_taken(self) -> int | None:
        """Those that were taken; None of a learner that takes none, or waits for queries."""
        by_steps = self.now is not None and (len(self.now[0]) > 1 or self.steps == 0)
        return self.steps if by_steps else None

    def predict(self, queries: NDArray[Any]) -> Prediction:
        """What it says of prepared queries, in float64 on the CPU.

        Raises:
            AdaptError: steps were asked of a learner that takes none.
        """
        trained = self.trained
        # Queries that depend on each other are seen together.
        size = len(queries) if transductive(trained) else PASS
        with reproducible(trained.device), torch.no_grad():
            parts = [
                Examples(_inputs(trained, queries[at : at + size]), name="query")
                for at in range(0, len(queries), size)
            ]
            fitted, ctx = self.now or self._fit(parts[0])
            found = [trained.learner.predict(fitted[-1], part, ctx) for part in parts]
        return _joined([prediction.double().tensors() for prediction in found])

    def network(self) -> Params:
        """Parameters of the adapted network, by name.

        Raises:
            AdaptError: the learner adapts no network.
        """
        name = self.trained.recipe.algorithm.name
        if self.now is None:
            raise AdaptError(f"{name} adapts when it sees queries; there is no network before that")
        last = self.now[0][-1]
        if not isinstance(last, AdaptedModel):
            raise AdaptError(
                f"{name} adapts no network's parameters; what it makes of the support is a "
                f"{type(last).__name__}; what it has learned stands in the model's .trained.params"
            )
        own = {n: p for n, p in last.params.items() if not n.startswith(PREFIX)}
        return {name: p.detach().clone() for name, p in own.items()}

    def _fit(self, query: Examples | None) -> Fitted:
        trained = self.trained
        task = Task(self.support, query, self.unlabeled)
        with reproducible(trained.device):
            found = trained.fit(task, "test", EPISODE, self.steps)
        if self.asked and len(found[0]) == 1:
            raise AdaptError(
                f"steps: {trained.recipe.algorithm.name} does not adapt by steps, {self.asked} "
                "were asked for; leave the number of steps out"
            )
        return found


def transductive(trained: TrainedLearner) -> bool:
    """Whether predictions for queries depend on the other queries."""
    normalised = trained.recipe.model.norm == "transductive" and trained.learner.normalises
    return normalised or "query_x" in trained.learner.needs


def _dtype(trained: TrainedLearner) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, trained.recipe.engine.dtype)
    return dtype


def _inputs(trained: TrainedLearner, x: NDArray[Any]) -> Tensor:
    return to_inputs(x, _dtype(trained), trained.device)


def _joined(parts: Sequence[dict[str, Tensor]]) -> Prediction:
    axes = {"samples": 1}
    joined = {
        name: torch.cat([part[name] for part in parts], axes.get(name, 0)).cpu()
        for name in parts[0]
    }
    return Prediction(**joined)
