"""What every meta-learner is: pure functions over its meta-parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from metadist.context import Context
from metadist.keys import Key
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task

#: ``exact``: the meta-gradient is the derivative of ``loss``. ``first-order``: the inner gradients
#: are constants. ``annealed``: first-order until a step that the options say, exact from then on.
#: ``straight-through``: a sampled discrete choice is differentiated as its relaxation. ``pseudo``:
#: ``gradient`` says in which direction to go. ``none``: nothing is meta-learned.
Estimator = Literal["exact", "first-order", "annealed", "straight-through", "pseudo", "none"]

#: What a learner has learned, for people: quantity -> name -> numbers.
LearnedQuantities = dict[str, dict[str, list[float]]]
#: Quantity, without an ending like ``_min`` or ``_largest``, -> its title, how to read its picture.
Captions = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Loss:
    """A task's contribution to the outer objective.

    Attributes:
        value: scalar to differentiate.
        metrics: scalars to report, averaged over tasks: ``Learner.metric_names``.
        statistics: float64 tensors to be summed over tasks, for ``update_state``.
    """

    value: Tensor
    metrics: dict[str, Tensor]
    statistics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """What predictions of Q queries rest on, for pictures.

    The examples that were learned from are M: the support set, then the unlabeled ones where they
    are used.

    Attributes:
        support: their features [M, D].
        query: features of the queries [Q, D], in the same space.
        prototypes: [N, D], what stands for each class in that space; None: nothing does.
        attention: by name, [Q, M], how much each query reads of each example: nothing below 0, and
            rows that sum to 1, or to less where a query reads something else too.
        adjacency: by name, [Q, M + 1, M + 1], how much each vertex of a query's graph (the
            examples, then the query) hears of each other one; rows as those of ``attention``.
    """

    support: Tensor
    query: Tensor
    prototypes: Tensor | None = None
    attention: Mapping[str, Tensor] = field(default_factory=dict)
    adjacency: Mapping[str, Tensor] = field(default_factory=dict)


class Learner(ABC):
    """Pure functions over ``params``: all meta-parameters, by name.

    What is not abstract has a default that fits a learner without it.

    Attributes:
        objective: what its predictions are judged by.
    """

    objective: Objective

    @property
    def estimator(self) -> Estimator:
        """Which meta-gradient the learner has; stands in every run's record."""
        return "exact"

    @property
    def derivative_order(self) -> int:
        """Order of the highest derivative that is taken, 0 to 2; stands in every run's record."""
        return 1

    @property
    def sums_losses(self) -> bool:
        """Whether tasks that are computed at once (``vmap``) have the gradient of their summed loss
        taken, in the place of the sum of their gradients.

        It is the same, in less time and memory where a parameter is used many times in a task. Not
        for learners that take gradients themselves, in ``loss`` or by ``gradient``.
        """
        return False

    @property
    def normalises(self) -> bool:
        """Whether passes over queries are normalised as ``model.norm`` says; of a learner without a
        network they are not."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """What it wants to know of a task beside the support set and the queries it predicts.

        ``query_x``: the queries' inputs in ``adapt`` already. ``unlabeled``: examples without
        labels; ``unlabeled_y``: their labels, by ``reveal``. ``query_<name>``: a further column of
        the queries. Else the name of something in ``Task.info``. Stands in every result.
        """
        return frozenset()

    @property
    def columns(self) -> frozenset[str]:
        """What tasks must bring: what it needs, and what its objective does."""
        return self.needs | self.objective.needs

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that ``loss`` returns, ``loss`` first; the sum is laid out by them
        before the first step."""
        return ("loss", *self.objective.train_metrics)

    @property
    def step_scalar_names(self) -> tuple[str, ...]:
        """Names of the scalars that ``step_scalars`` returns."""
        return ()

    @abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh meta-parameters, float32 on the CPU."""

    @abstractmethod
    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Any]:
        """Whatever predicts after 0, 1, ... T steps (one element where there are no steps)."""

    @abstractmethod
    def predict(self, fitted: Any, query: Examples, ctx: Context) -> Prediction:
        """Logits [n, N] or values [n, E] for n queries."""

    def pair_scores(self, fitted: Any, query: Examples, ctx: Context) -> Tensor | None:
        """How sure it is that a query and a support example are of the same class, [n, S].

        Larger is surer; only their order means something. None: it compares no pairs.
        """
        return None

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """The task's loss, metrics and statistics: those of its queries after adaptation."""
        fitted = self.adapt(params, task.view(self.needs), ctx)
        prediction = self.predict(fitted[-1], task.visible_query(self.needs), ctx)
        return Loss(*self.objective.loss_and_metrics(prediction, task.query))

    def gradient(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Loss]:
        """The task's part of the meta-gradient: that of ``loss``, or what stands for it."""

        def value(p: Params) -> tuple[Tensor, tuple[dict[str, Tensor], dict[str, Tensor]]]:
            loss = self.loss(p, task, ctx)
            return loss.value, (loss.metrics, loss.statistics)

        gradients, (metrics, statistics) = ctx.grad(value, params)
        return gradients, Loss(metrics["loss"], metrics, statistics)

    def arranged(self, params: Params) -> Params:
        """The same meta-parameters in the order of memory that is fastest, for several tasks."""
        return params

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
        self,
        state: Mapping[str, Tensor],
        means: Mapping[str, Tensor],
        new_params: Params,
        ctx: Context,
    ) -> dict[str, Tensor]:
        """That state after an outer step.

        Args:
            means: task average of the statistics.
            new_params: the meta-parameters after the step.
        """
        return dict(state)

    def activations(self, fitted: Any, query: Examples, ctx: Context) -> dict[str, Tensor]:
        """Activations [n, ...] of each layer for n queries, by layer name, where there are any."""
        return {}

    def explanation(self, fitted: Any, query: Examples, ctx: Context) -> Explanation | None:
        """What the predictions for n queries rest on, for people; None: nothing to be shown."""
        return None

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        """What has been learned beside the network, in numbers people look at.

        ``<quantity>_smallest`` and ``_largest``, or ``_min``, ``_mean`` and ``_max``, are drawn as
        one picture.
        """
        return {}

    @property
    def captions(self) -> Captions:
        """Titles of the learned quantities' pictures, and what stands below them."""
        return {}
