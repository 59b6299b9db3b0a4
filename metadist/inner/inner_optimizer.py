"""What turns a gradient into an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from metadist.keys import Key
from metadist.learner import Findings
from metadist.tasks import Context, Params


@dataclass(frozen=True)
class Step:
    """What a rule may know of the step it is asked for.

    Attributes:
        index: steps taken before this one.
        meta: the rule's own meta-parameters, by the names ``init`` gave them.
        state: what the last step returned, or ``start``.
        ctx: the task's context, with its random numbers.
    """

    index: int
    meta: Params
    state: Params
    ctx: Context


class Rule(ABC):
    """An inner update. Rules without parameters, state or random numbers write ``update`` only."""

    def init(self, adapted: Params, key: Key) -> Params:
        """Fresh meta-parameters of the rule, for parameters like these to adapt."""
        return {}

    def start(self, adapted: Params) -> Params:
        """State before the first step of a task."""
        return {}

    def draws(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The random numbers of one task."""
        return {}

    @abstractmethod
    def update(self, adapted: Params, gradients: Params, step: Step) -> tuple[Params, Params]:
        """Parameters and state after one step."""

    def findings(self, meta: Params) -> Findings:
        """What the rule has learned, in numbers people look at."""
        return {}


#: Meta-parameters of a rule stand among a learner's under this prefix.
PREFIX = "rule."


def meta_parameters(params: Params) -> Params:
    """The rule's own among a learner's meta-parameters."""
    return {n.removeprefix(PREFIX): p for n, p in params.items() if n.startswith(PREFIX)}
