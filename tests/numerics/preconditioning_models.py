"""Small networks with a preconditioned learner on each, and the same in the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from metadist.compute.learners import build, context
from metadist.context import Context
from metadist.inner.inner_loop import InnerLoop
from metadist.keys import Key
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, TaskBatch, TaskShape
from tests.contract.setting import episode_of
from tests.numerics.reference import Episode, Net, Reference, cross_entropy, squared_error

WAYS, TASKS, LR = 3, 7, 0.05
KEY = Key.of("preconditioning")


@dataclass(frozen=True)
class Model:
    """A network, the same network in the reference, and the shape of its tasks."""

    options: Mapping[str, Any]
    net: Net
    shape: TaskShape

    @property
    def images(self) -> bool:
        return len(self.shape.inputs) == 3

    def learner(self, algorithm: str, steps: int, **options: Any) -> tuple[InnerLoop, Context]:
        """A learner and its context in training."""
        recipe = Recipe.model_validate(
            {
                "data": {"dataset": "none"},
                "model": {"norm": "transductive" if self.images else "none", **self.options},
                "algorithm": {"name": algorithm, **options},
                "inner": {
                    "lr": LR,
                    "steps": steps,
                    "loss": "sum_over_ways" if self.images else "mean",
                },
            }
        )
        learner = build(recipe, self.shape)
        assert isinstance(learner, InnerLoop)
        return learner, context(recipe, "train", 0)

    def reference(self, steps: int) -> Reference:
        """What the reference calls a learner."""
        return Reference(
            net=self.net,
            loss=cross_entropy if self.images else squared_error,
            lr=LR,
            steps=steps,
            scale=WAYS if self.images else 1,
            adapted=lambda name: not name.startswith(("norm", "rule.")) and "transform" not in name,
            norm="transductive" if self.images else "none",
        )

    def tasks(self) -> TaskBatch:
        """Noise; right answers are not needed here."""
        x = {
            n: KEY.fold(n, "x").normal((TASKS, 6, *self.shape.inputs), torch.float64) for n in "sq"
        }
        y = {n: KEY.fold(n, "y").normal((TASKS, 6, 1), torch.float64) for n in "sq"}
        if self.images:
            y = dict.fromkeys("sq", torch.arange(WAYS).repeat(TASKS, 2))
        columns = {"support_x": x["s"], "support_y": y["s"], "query_x": x["q"], "query_y": y["q"]}
        return TaskBatch(tuple(range(TASKS)), columns)

    def episode(self) -> Episode:
        """The first of them."""
        return episode_of(self.tasks().task(0))


def mlp(layers: int) -> Model:
    return Model(
        {"name": "mlp", "hidden": 8, "layers": layers},
        Net("mlp"),
        TaskShape((2,), 1),
    )


CONV = Model(
    {"name": "conv4", "filters": 4, "affine": "scale_shift"},
    Net("conv4"),
    TaskShape((1, 16, 16), WAYS, WAYS),
)


def shaken(params: Params, by: float = 0.2) -> Params:
    """Parameters away from any special point."""
    return {
        n: p.double() + by * KEY.fold(n).normal(p.shape, torch.float64) for n, p in params.items()
    }


@contextmanager
def noticed() -> Iterator[None]:
    """What must not pass for right."""
    with pytest.raises(AssertionError):
        yield
