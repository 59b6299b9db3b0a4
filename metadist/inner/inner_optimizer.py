"""What turns a gradient into an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.tasks import Context, Params


@dataclass(frozen=True)
class InnerStep:
    """What an inner optimizer may know of the step it is asked for.

    Attributes:
        index: steps taken before this one.
        meta: the optimizer's own meta-parameters, by the names ``init`` gave them.
        state: what the last step returned, or ``start``.
        ctx: the task's context, with its random numbers.
    """

    index: int
    meta: Params
    state: Params
    ctx: Context


class InnerOptimizer(ABC):
    """An inner update; one without parameters, state or random numbers is its ``update`` alone."""

    def init(self, adapted: Params, key: Key) -> Params:
        """Fresh meta-parameters of the optimizer, for parameters like these to adapt."""
        return {}

    def start(self, adapted: Params) -> Params:
        """State before the first step of a task."""
        return {}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The random numbers of one task."""
        return {}

    @abstractmethod
    def update(self, adapted: Params, gradients: Params, step: InnerStep) -> tuple[Params, Params]:
        """Parameters and state after one step."""

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """What the optimizer has learned, in numbers people look at."""
        return {}


#: Meta-parameters of an inner optimizer stand among a learner's under this prefix.
PREFIX = "rule."


def meta_parameters(params: Params) -> Params:
    """The optimizer's own among a learner's meta-parameters."""
    return {n.removeprefix(PREFIX): p for n, p in params.items() if n.startswith(PREFIX)}
