"""What every meta-learner is: pure functions over its meta-parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from metadist.keys import Key
from metadist.tasks import Context, Params, Task

#: ``exact``: the meta-gradient is the derivative of ``loss``. ``first-order``: the inner gradients
#: are constants. ``annealed``: first-order until a step that the options say, exact from then on.
#: ``straight-through``: a sampled discrete choice is differentiated as its relaxation. ``pseudo``:
#: ``pseudo_gradient`` says in which direction to go. ``none``: nothing is meta-learned.
Estimator = Literal["exact", "first-order", "annealed", "straight-through", "pseudo", "none"]

#: What a learner has learned, for people: quantity -> name -> numbers.
LearnedQuantities = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Loss:
    """A task's contribution to the outer objective.

    Attributes:
        value: scalar to differentiate.
        metrics: scalars to report, averaged over tasks: ``loss``, and ``accuracy`` in
            classification.
        statistics: float64 tensors to be summed over tasks, for ``update_state``.
    """

    value: Tensor
    metrics: dict[str, Tensor]
    statistics: dict[str, Tensor]


class Learner(ABC):
    """Pure functions over ``params``: all meta-parameters, by name.

    What is not abstract has a default that fits a learner without it.
    """

    @property
    def estimator(self) -> Estimator:
        """Which meta-gradient the learner has; stands in every run's record."""
        return "exact"

    @property
    def derivative_order(self) -> int:
        """Order of the highest derivative that is taken, 0 to 2; stands in every run's record."""
        return 1

    @property
    def needs(self) -> frozenset[str]:
        """What it must know of a task beside the examples; see ``Context.info``."""
        return frozenset()

    @property
    def step_scalar_names(self) -> tuple[str, ...]:
        """Names of the scalars that ``step_scalars`` returns."""
        return ()

    @abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh meta-parameters, float32 on the CPU."""

    @abstractmethod
    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ctx: Context
    ) -> Sequence[Any]:
        """Whatever predicts after 0, 1, ... T steps (one element where there are no steps)."""

    @abstractmethod
    def predict(self, fitted: Any, x: Tensor, ctx: Context) -> Tensor:
        """Logits [n, N] or values [n, E]."""

    @abstractmethod
    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """The task's loss, metrics and statistics."""

    def pseudo_gradient(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Loss]:
        """What stands for the task's gradient, where the estimator is ``pseudo``.

        Raises:
            TypeError: a learner that declares ``pseudo`` and does not say what it is.
        """
        raise TypeError(
            f"{type(self).__name__} has the estimator {self.estimator!r}; one that is 'pseudo' "
            "needs a pseudo_gradient of its own"
        )

    def step_scalars(self, params: Params, task: Task, ctx: Context) -> dict[str, Tensor]:
        """Scalars of a task that the losses of all tasks of the step may depend on."""
        return {}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The random numbers of one task; no other randomness is allowed."""
        return {}

    def statistics(self, ctx: Context) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the statistics that ``loss`` returns with each training task."""
        return {}

    def initial_state(self, ctx: Context) -> dict[str, Tensor]:
        """Outer state that is not trained by gradient."""
        return {}

    def update_state(
        self, state: Mapping[str, Tensor], means: Mapping[str, Tensor], ctx: Context
    ) -> dict[str, Tensor]:
        """That state after an outer step, from the task average of the statistics."""
        return dict(state)

    def activations(self, fitted: Any, x: Tensor, ctx: Context) -> dict[str, Tensor]:
        """Activations [n, ...] of each layer for queries x, by layer name, where there are any."""
        return {}

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        """What has been learned beside the network, in numbers people look at."""
        return {}
