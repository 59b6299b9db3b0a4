"""Meta-learners: one module each, found by their module name.

A module exports ``Options`` and ``build(parts)``, which returns a :class:`Learner`, and
``KINDS`` if it does not work on every kind of task. Its docstring names the paper.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from metadist.backbones import Backbone
from metadist.discovery import Options, find, module_names, parse_options
from metadist.errors import RecipeError
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.sgd import SGD
from metadist.learner import Learner
from metadist.tasks import TaskKind, TaskShape

LoopT = TypeVar("LoopT", bound=InnerLoop)
OptionsT = TypeVar("OptionsT", bound=Options, covariant=True)


@dataclass(frozen=True)
class Parts(Generic[OptionsT]):
    """What a learner is built from: flat values, never a recipe.

    Attributes:
        network: the recipe's backbone for tasks of a shape; learners that feed it more than the
            examples, or ask it for other outputs, ask for another shape than that of the tasks.
        inner_steps: adaptation steps in training; what is learned for each step has so many rows.
    """

    network: Callable[[TaskShape], Backbone]
    shape: TaskShape
    inner_lr: float
    inner_loss: Literal["mean", "sum_over_ways"]
    options: OptionsT
    inner_steps: int = 1

    @property
    def backbone(self) -> Backbone:
        """The network for tasks of this shape."""
        return self.network(self.shape)

    def inner_loop(self, learner: type[LoopT], **fields: Any) -> LoopT:
        """A learner with an inner loop of these parts: MAML's, where ``fields`` say nothing else.

        Args:
            learner: its class.
            fields: its other fields, or other values of those that the parts give.
        """
        if "backbone" not in fields:
            fields["backbone"] = self.backbone
        given = {
            "kind": self.shape.kind,
            "ways": self.shape.outputs,
            "optimizer": SGD(self.inner_lr),
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


def kinds(name: str) -> tuple[TaskKind, ...]:
    """The kinds of tasks an algorithm works on.

    Raises:
        RecipeError: unknown algorithm.
    """
    module = find(sys.modules[__name__], name, "algorithm")
    declared: tuple[TaskKind, ...] = getattr(module, "KINDS", get_args(TaskKind))
    return declared


def build(name: str, parts: Parts[Options]) -> Learner:
    """The learner ``name``.

    Raises:
        RecipeError: unknown algorithm, or one that does not work on such tasks.
    """
    if parts.shape.kind not in kinds(name):
        raise RecipeError(
            f"algorithm {name!r} works on {' and '.join(kinds(name))}, the data are tasks of "
            f"{parts.shape.kind}; choose other data or another algorithm"
        )
    learner: Learner = find(sys.modules[__name__], name, "algorithm").build(parts)
    return learner
