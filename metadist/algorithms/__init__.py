"""Meta-learners, one module each, found by their module name.

A module exports ``Options`` and ``build(parts)``, which returns an :class:`Algorithm`. Its
docstring names the paper.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from metadist.backbones import Backbone
from metadist.discovery import Options, find, module_names, parse_options
from metadist.keys import Key
from metadist.rules.inner_loop import Loss
from metadist.tasks import Context, Params, Task, TaskShape

__all__ = ["Algorithm", "Loss", "Parts", "build", "names", "options"]


@dataclass(frozen=True)
class Parts:
    """What a learner is built from: flat values, never a recipe."""

    backbone: Backbone
    shape: TaskShape
    inner_lr: float
    inner_loss: Literal["mean", "sum_over_ways"]
    options: Options


class Algorithm(Protocol):
    """Pure functions over ``params``: all meta-parameters, by name.

    Attributes:
        estimator: ``exact`` (the derivative of ``loss`` is the meta-gradient) or ``first-order``
            (the inner gradients are constants).
        derivative_order: 2 or 1; stands in every run's record.
    """

    @property
    def estimator(self) -> Literal["exact", "first-order"]: ...

    @property
    def derivative_order(self) -> int: ...

    def init(self, key: Key) -> Params:
        """Fresh meta-parameters, float32 on the CPU."""

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ctx: Context
    ) -> Sequence[Any]:
        """Whatever predicts after 0, 1, ... T steps (one element where there are no steps)."""

    def predict(self, fitted: Any, x: Tensor, ctx: Context) -> Tensor:
        """Logits [n, N] or values [n, E]."""

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """The task's loss, metrics and statistics."""

    def draws(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The random numbers of one task; no other randomness is allowed."""

    def statistics(self, ctx: Context) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the statistics that ``loss`` returns with each training task."""

    def initial_state(self, ctx: Context) -> dict[str, Tensor]:
        """Outer state that is not trained by gradient."""

    def update_state(
        self, state: Mapping[str, Tensor], means: Mapping[str, Tensor], ctx: Context
    ) -> dict[str, Tensor]:
        """That state after an outer step, from the task average of the statistics."""


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


def build(name: str, parts: Parts) -> Algorithm:
    """The algorithm ``name``.

    Raises:
        RecipeError: unknown algorithm.
    """
    algorithm: Algorithm = find(sys.modules[__name__], name, "algorithm").build(parts)
    return algorithm
