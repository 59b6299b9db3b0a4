"""A trained learner that has adapted to a support set: what is said to it, and what it answers.

All that passes between :mod:`metadist.evaluation.inference` and a learner passes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metadist.compute.determinism import reproducible
from metadist.context import Context
from metadist.errors import AdaptError
from metadist.evaluation.inference.inputs import Inputs
from metadist.evaluation.inference.predictions import Predictions
from metadist.evaluation.inference.targets import Targets
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.inner.inner_loop import AdaptedModel
from metadist.inner.inner_optimizer import PREFIX
from metadist.tasks import Examples, Task, Unlabeled, to_inputs

#: The random numbers of a learner that draws some are those of the test episode of this id.
EPISODE = 0
#: Queries of one pass of the network, where they do not depend on each other.
PASS = 512


@dataclass(frozen=True, eq=False, repr=False)
class FittedModel:
    """What :meth:`TrainedModel.adapt` returns.

    Attributes:
        inputs: how queries are read.
        support: prepared examples, in the order in which they are shown.
        targets: of the support.
        unlabeled: further prepared examples; None: there are none.
        asked: adaptation steps that were asked for; None: as trained.
        trained_ways: classes of the tasks that it was trained on.
    """

    trained: TrainedLearner
    inputs: Inputs
    support: NDArray[Any]
    targets: Targets
    unlabeled: NDArray[Any] | None
    asked: int | None
    trained_ways: int

    def __post_init__(self) -> None:
        if not self._waits:
            _ = self._alone

    @property
    def classes(self) -> tuple[Any, ...]:
        """The labels of the support, sorted; none where values are learned."""
        return self.targets.classes

    @property
    def shots(self) -> tuple[int, ...]:
        """Support examples of each class."""
        return self.targets.shots

    @property
    def steps(self) -> int | None:
        """Adaptation steps taken; None of a learner that takes none, or waits for queries."""
        by_steps = not self._waits and (len(self._alone[0]) > 1 or self._steps == 0)
        return self._steps if by_steps else None

    def predict(self, x: Any) -> Predictions:
        """What it says of queries.

        Args:
            x: as ``x`` of :meth:`TrainedModel.adapt`.

        Returns:
            ``labels``, ``probabilities`` and ``logits``; of a learner of values ``mean``, and
            ``scale``; and ``samples`` where the learner has them.

        Raises:
            AdaptError: no queries, or none that can be read; one alone where they are normalised
                together; outputs that are not finite; or steps were asked of a learner that takes
                none.
        """
        return self.predict_prepared(self.inputs.read(x, "query"))

    def predict_prepared(self, queries: NDArray[Any]) -> Predictions:
        """The same for what :class:`Inputs` has read; raises AdaptError as :meth:`predict`."""
        self._check(queries)
        found = self._outputs(queries)
        if not all(np.isfinite(numbers).all() for numbers in found.values()):
            raise AdaptError(
                f"the learner's outputs are not finite after {self._steps} adaptation "
                "steps: it has diverged; take fewer steps, or look at the support"
            )
        notes = self._notes(len(queries))
        return Predictions(
            found["mean"], self.classes, found.get("scale"), found.get("samples"), notes
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the parameters of the adapted network, by name.

        Raises:
            AdaptError: the learner adapts no network; the message says what there is instead.
        """
        name = self.trained.recipe.algorithm.name
        if self._waits:
            raise AdaptError(f"{name} adapts when it sees queries; there is no network before that")
        last = self._alone[0][-1]
        if not isinstance(last, AdaptedModel):
            raise AdaptError(
                f"{name} adapts no network's parameters; what it makes of the support is a "
                f"{type(last).__name__}; what it has learned stands in the model's .trained.params"
            )
        own = {n: p for n, p in last.params.items() if not n.startswith(PREFIX)}
        return {name: p.detach().clone() for name, p in own.items()}

    @property
    def _steps(self) -> int:
        """Adaptation steps to take."""
        return self.trained.recipe.inner.steps if self.asked is None else self.asked

    @property
    def _waits(self) -> bool:
        """Whether the learner wants to see the queries when it adapts."""
        return "query_x" in self.trained.learner.needs

    @property
    def _transductive(self) -> bool:
        """Whether predictions for queries depend on the other queries."""
        trained = self.trained
        normalised = trained.recipe.model.norm == "transductive" and trained.learner.normalises
        return normalised or self._waits

    @cached_property
    def _alone(self) -> tuple[Sequence[Any], Context]:
        return self._fit(None)

    def _fit(self, query: Examples | None) -> tuple[Sequence[Any], Context]:
        """What predicts after 0, 1, … steps, and what it must know."""
        trained, targets = self.trained, torch.from_numpy(self.targets.y)
        targets = targets.to(trained.device, None if self.classes else self._dtype)
        support = Examples(self._tensor(self.support), targets, name="support")
        more = None
        if self.unlabeled is not None:
            more = Unlabeled(self._tensor(self.unlabeled), name="unlabeled")
        with reproducible(trained.device):
            found = trained.fit(Task(support, query, more), "test", EPISODE, self._steps)
        if self.asked and len(found[0]) == 1:
            raise AdaptError(
                f"steps: {trained.recipe.algorithm.name} does not adapt by steps, {self.asked} "
                "were asked for; leave the number of steps out"
            )
        return found

    def _outputs(self, queries: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """What the learner says of prepared queries, float64, by the names of a prediction."""
        trained = self.trained
        # Queries that depend on each other are seen together.
        size = len(queries) if self._transductive else PASS
        with reproducible(trained.device), torch.no_grad():
            passes = [
                Examples(self._tensor(queries[at : at + size]), name="query")
                for at in range(0, len(queries), size)
            ]
            fitted, ctx = self._fit(passes[0]) if self._waits else self._alone
            found = [trained.learner.predict(fitted[-1], one, ctx).double() for one in passes]
        parts = [{n: t.cpu().numpy() for n, t in one.tensors().items()} for one in found]
        axes = {"samples": 1}
        return {n: np.concatenate([p[n] for p in parts], axes.get(n, 0)) for n in parts[0]}

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.trained.recipe.engine.dtype)
        return dtype

    def _tensor(self, x: NDArray[Any]) -> Tensor:
        return to_inputs(x, self._dtype, self.trained.device)

    def _check(self, queries: NDArray[Any]) -> None:
        if not len(queries):
            what = "image: there is nothing to label" if self.classes else "point to predict at"
            raise AdaptError(f"no query {what}")
        if len(queries) == 1 and self._transductive:
            raise AdaptError(
                "one query alone: this learner normalises queries by the statistics of all of them "
                "(model.norm = 'transductive'), which one does not have; give several at once, "
                "best some of every class, or train with model.norm = 'support'"
            )

    def _notes(self, queries: int) -> tuple[str, ...]:
        if not self._transductive:
            return ()
        note = (
            "Transductive normalisation: the network sees all queries at once, and what it says of "
            "one depends on the others: label together what belongs together."
        )
        if queries < self.trained_ways:
            note += (
                f" It was trained with queries of all {self.trained_ways} classes together; with "
                f"{queries} its figures do not hold."
            )
        return (note,)

    def __repr__(self) -> str:
        name = self.trained.recipe.algorithm.name
        steps = "" if self.steps is None else f", adaptation steps: {self.steps}"
        if not self.classes:
            return f"{name}, adapted to {len(self.targets.y)} points{steps}"
        shown = [f"{c} ({n})" for c, n in zip(self.classes, self.shots, strict=True)]
        more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
        return (
            f"{name}, adapted to {len(self.targets.y)} examples of {len(shown)} classes{steps}\n"
            f"Labels (and their examples): {', '.join(shown[:10])}{more}"
        )
