"""A trained learner that has adapted to a support set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metadist.errors import AdaptError
from metadist.evaluation.inference.adaptation import Adaptation, transductive
from metadist.evaluation.inference.inputs import Inputs
from metadist.evaluation.inference.predictions import Predictions
from metadist.evaluation.inference.targets import Targets


@dataclass(frozen=True, eq=False, repr=False)
class FittedModel:
    """What :meth:`TrainedModel.adapt` returns.

    Attributes:
        inputs: how queries are read.
        targets: of the support.
        trained_ways: classes of the tasks that it was trained on.
    """

    adaptation: Adaptation
    inputs: Inputs
    targets: Targets
    trained_ways: int

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
        return self.adaptation.steps_taken

    def predict(self, x: Any) -> Predictions:
        """What it says of queries.

        Args:
            x: as ``x`` of :meth:`TrainedModel.adapt`.

        Returns:
            ``labels``, ``probabilities`` and ``logits``; of a learner of values ``mean``, and
            ``scale``; and ``samples`` where the learner has them.

        Raises:
            AdaptError: no queries, or none that can be read; one alone where they are normalised
                together; or outputs that are not finite.
        """
        return self.predict_prepared(self.inputs.read(x, "query"))

    def predict_prepared(self, queries: NDArray[Any]) -> Predictions:
        """The same for what :class:`Inputs` has read; raises AdaptError as :meth:`predict`."""
        self._check(queries)
        found = {n: t.numpy() for n, t in self.adaptation.predict(queries).tensors().items()}
        if not all(np.isfinite(numbers).all() for numbers in found.values()):
            raise AdaptError(
                f"the learner's outputs are not finite after {self.adaptation.steps} adaptation "
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
        return self.adaptation.network()

    def _check(self, queries: NDArray[Any]) -> None:
        if not len(queries):
            what = "image: there is nothing to label" if self.classes else "point to predict at"
            raise AdaptError(f"no query {what}")
        if len(queries) == 1 and transductive(self.adaptation.trained):
            raise AdaptError(
                "one query alone: this learner normalises queries by the statistics of all of them "
                "(model.norm = 'transductive'), which one does not have; give several at once, "
                "best some of every class, or train with model.norm = 'support'"
            )

    def _notes(self, queries: int) -> tuple[str, ...]:
        if not transductive(self.adaptation.trained):
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
        name = self.adaptation.trained.recipe.algorithm.name
        steps = "" if self.steps is None else f", adaptation steps: {self.steps}"
        if not self.classes:
            return f"{name}, adapted to {len(self.targets.y)} points{steps}"
        shown = [f"{c} ({n})" for c, n in zip(self.classes, self.shots, strict=True)]
        more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
        return (
            f"{name}, adapted to {len(self.targets.y)} examples of {len(shown)} classes{steps}\n"
            f"Labels (and their examples): {', '.join(shown[:10])}{more}"
        )
