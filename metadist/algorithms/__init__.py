"""Meta-learners: one module each, found by their module name.

A module exports ``Options`` and ``build(parts)``, which returns a :class:`Learner`, and
``TARGETS`` if it cannot predict labels and values alike. Its docstring names the paper.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from metadist.backbones import Backbone
from metadist.discovery import Options, find, module_names, parse_options
from metadist.errors import RecipeError
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.sgd import SGD
from metadist.learner import Learner
from metadist.objectives import Objective
from metadist.tasks import Targets, TaskShape

LoopT = TypeVar("LoopT", bound=InnerLoop)
OptionsT = TypeVar("OptionsT", bound=Options, covariant=True)


@dataclass(frozen=True)
class Parts(Generic[OptionsT]):
    """What a learner is built from: flat values, never a recipe.

    Attributes:
        network: the recipe's backbone for tasks of a shape; learners that feed it more than the
            examples, or ask it for other outputs, ask for another shape than that of the tasks.
        objective: what predictions are judged by.
        inner_lr: where learned step sizes start; others are told by ``Context.inner_lr``.
        inner_steps: adaptation steps in training; what is learned for each step has so many rows.
    """

    network: Callable[[TaskShape], Backbone]
    shape: TaskShape
    objective: Objective
    inner_lr: float
    inner_loss: Literal["mean", "sum_over_ways"]
    options: OptionsT
    inner_steps: int = 1

    @property
    def backbone(self) -> Backbone:
        """The network for tasks of this shape."""
        return self.network(self.shape)

    @property
    def encoder(self) -> Encoder:
        """The network without its head: features of any number of ways."""
        return Encoder(self.backbone)

    def inner_loop(self, learner: type[LoopT], **fields: Any) -> LoopT:
        """A learner with an inner loop of these parts: MAML's, where ``fields`` say nothing else.

        Args:
            learner: its class.
            fields: its other fields, or other values of those that the parts give.
        """
        if "backbone" not in fields:
            fields["backbone"] = self.backbone
        given = {
            "objective": self.objective,
            "ways": self.shape.ways,
            "optimizer": SGD(),
            "support_reduction": self.inner_loss,
        }
        return learner(**{**given, **fields})


def names() -> list[str]:
    """Names of all algorithms."""
    return module_names(sys.modules[__name__])


def options(name: str, given: dict[str, Any]) -> Options:
    """The validated options of an algorithm.

    Raises:
        RecipeError: unknown algorithm or option.
    """
    module = find(sys.modules[__name__], name, "algorithm")
    parsed: Options = parse_options(module.Options, given, "algorithm")
    return parsed


def targets(name: str) -> tuple[Targets, ...]:
    """What an algorithm can predict.

    Raises:
        RecipeError: unknown algorithm.
    """
    module = find(sys.modules[__name__], name, "algorithm")
    declared: tuple[Targets, ...] = getattr(module, "TARGETS", get_args(Targets))
    return declared


def build(name: str, parts: Parts[Options]) -> Learner:
    """The learner ``name``.

    Raises:
        RecipeError: unknown algorithm, or one that does not work on such tasks.
    """
    if parts.shape.targets not in targets(name):
        raise RecipeError(
            f"algorithm {name!r} predicts {' and '.join(targets(name))}, the data are tasks of "
            f"{parts.shape.targets} ({parts.objective.name}); choose other data or another "
            "algorithm"
        )
    learner: Learner = find(sys.modules[__name__], name, "algorithm").build(parts)
    return learner
