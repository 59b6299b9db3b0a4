"""A trained learner and a task that nobody drew: what is said to it, and what it answers.

All that passes between :mod:`metadist.evaluation.inference` and a learner passes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metadist.compute.determinism import reproducible
from metadist.compute.learners import build, initial_params
from metadist.errors import AdaptError, RecipeError
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.inner.inner_loop import AdaptedModel
from metadist.inner.inner_optimizer import PREFIX
from metadist.tasks import Context, Params, TaskShape, to_inputs

#: The random numbers of a learner that draws some are those of the test episode of this id.
EPISODE = 0
#: Queries of one pass of the network, where they do not depend on each other.
PASS = 512


@dataclass(frozen=True)
class Output:
    """What is predicted for Q queries: logits [Q, N] or values [Q, E], float64."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64] | None = None
    samples: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Adaptation:
    """A learner after adaptation to a support set.

    Attributes:
        fitted: what predicts after 0, 1, … steps; one element of a learner that takes none.
    """

    trained: TrainedLearner
    fitted: Sequence[Any]
    ctx: Context

    @classmethod
    def of(
        cls, trained: TrainedLearner, x: NDArray[Any], y: NDArray[Any], steps: int
    ) -> Adaptation:
        """Adapt to prepared examples x, and y as :class:`Targets` has them."""
        device, dtype = trained.device, getattr(torch, trained.recipe.engine.dtype)
        with reproducible(device), torch.no_grad():
            targets = torch.from_numpy(y).to(device)
            targets = targets if targets.dtype == torch.int64 else targets.to(dtype)
            inputs = to_inputs(x, dtype, device)
            fitted, ctx = trained.fit(inputs, targets, {}, "test", EPISODE, steps)
        return cls(trained, fitted, ctx)

    def predict(self, queries: NDArray[Any]) -> Output:
        """What it says of prepared queries."""
        trained, last = self.trained, self.fitted[-1]
        device, dtype = trained.device, getattr(torch, trained.recipe.engine.dtype)
        # Queries that depend on each other are seen together.
        size = len(queries) if transductive(trained) else PASS
        with reproducible(device), torch.no_grad():
            parts = [queries[at : at + size] for at in range(0, len(queries), size)]
            found: list[Tensor] = [
                trained.algorithm.predict(last, to_inputs(part, dtype, device), self.ctx)
                for part in parts
            ]
        return Output(torch.cat(found).double().cpu().numpy())

    def network(self) -> Params:
        """Parameters of the adapted network, by name.

        Raises:
            AdaptError: the learner adapts no network.
        """
        last = self.fitted[-1]
        if not isinstance(last, AdaptedModel):
            raise AdaptError(
                f"{self.trained.recipe.algorithm.name} adapts no network's parameters; what it "
                f"makes of the support is a {type(last).__name__}; what it has learned stands in "
                "the model's .trained.params"
            )
        own = {n: p for n, p in last.params.items() if not n.startswith(PREFIX)}
        return {name: p.detach().clone() for name, p in own.items()}


def transductive(trained: TrainedLearner) -> bool:
    """Whether predictions for queries depend on the other queries."""
    # What differentiates nothing has no network to normalise.
    return trained.recipe.model.norm == "transductive" and trained.algorithm.derivative_order > 0


def for_ways(trained: TrainedLearner, shape: TaskShape, ways: int) -> TrainedLearner:
    """The learner for tasks of another number of classes.

    Raises:
        RecipeError: parameters depend on that number.
    """
    other = build(trained.recipe, replace(shape, outputs=ways))
    fresh = initial_params(trained.recipe, other)
    if {n: p.shape for n, p in fresh.items()} != {n: p.shape for n, p in trained.params.items()}:
        raise RecipeError("it has as many outputs")
    return replace(trained, algorithm=other)
