"""What turns a gradient into an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from metadist.context import Context
from metadist.errors import PluginError
from metadist.keys import Key
from metadist.learner import Captions, LearnedQuantities
from metadist.tasks import Params

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class InnerStep:
    """What an inner optimizer may know of the step it is asked for.

    Attributes:
        index: steps taken before this one.
        meta: the optimizer's own meta-parameters, by the names ``init`` gave them.
        loss: the support loss at the parameters before the step, a scalar; a constant where the
            meta-gradient does not go through the inner gradients.
        ctx: the task's context, with its random numbers and the inner learning rate.
    """

    index: int
    meta: Params
    loss: Tensor
    ctx: Context


class InnerOptimizer(ABC):
    """An inner update; one without parameters, state or random numbers is its ``update`` alone."""

    def init(self, adapted: Params, key: Key) -> Params:
        """Fresh meta-parameters of the optimizer, for parameters like these to adapt."""
        return {}

    def start(self, meta: Params, adapted: Params, ctx: Context) -> Params:
        """State before the first step of a task."""
        return {}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The random numbers of one task."""
        return {}

    @abstractmethod
    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        """What is added to each parameter, and the state after the step.

        Args:
            gradients: of the support loss, or what an optimizer before this one made of them.
            state: what the last step returned, or ``start``.
            adapted: the parameters before the step.
        """

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """What the optimizer has learned; see :meth:`Learner.learned_quantities`."""
        return {}

    @property
    def captions(self) -> Captions:
        """Titles and captions of what it has learned."""
        return {}


@dataclass(frozen=True)
class Chain(InnerOptimizer):
    """Several optimizers, each of which is given what the one before it returned.

    All but the last transform gradients; the last makes an update of them. Their meta-parameters,
    random numbers and quantities need different names.

    Raises:
        PluginError: they have not, or there is no optimizer.
    """

    parts: tuple[InnerOptimizer, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise PluginError("Chain: at least one inner optimizer is needed, got none")

    def init(self, adapted: Params, key: Key) -> Params:
        return _merged("meta-parameters", [part.init(adapted, key) for part in self.parts])

    def start(self, meta: Params, adapted: Params, ctx: Context) -> Params:
        return {
            f"{place}/{name}": value
            for place, part in enumerate(self.parts)
            for name, value in part.start(meta, adapted, ctx).items()
        }

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        return _merged("random numbers", [part.noise(key, ctx) for part in self.parts])

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        after: Params = {}
        for place, part in enumerate(self.parts):
            prefix = f"{place}/"
            own = {n.removeprefix(prefix): s for n, s in state.items() if n.startswith(prefix)}
            gradients, new = part.update(gradients, own, adapted, step)
            after |= {f"{prefix}{name}": value for name, value in new.items()}
        return gradients, after

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        return _merged("quantities", [part.learned_quantities(meta) for part in self.parts])

    @property
    def captions(self) -> Captions:
        return {name: text for part in self.parts for name, text in part.captions.items()}


def _merged(what: str, parts: Sequence[Mapping[str, ValueT]]) -> dict[str, ValueT]:
    """All of them by name."""
    merged: dict[str, ValueT] = {}
    for part in parts:
        if twice := merged.keys() & part.keys():
            raise PluginError(
                f"Chain: optimizers need {what} of different names, two have "
                f"{', '.join(sorted(twice))}; rename those of one of them"
            )
        merged |= part
    return merged


#: Meta-parameters of an inner optimizer stand among a learner's under this prefix.
PREFIX = "rule."


def meta_parameters(params: Params) -> Params:
    """The optimizer's own among a learner's meta-parameters."""
    return {n.removeprefix(PREFIX): p for n, p in params.items() if n.startswith(PREFIX)}
