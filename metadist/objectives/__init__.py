"""What is minimised and what is measured: one module each, found by its module name.

A module exports ``Options`` and ``build(options, shape)``, which returns an :class:`Objective`, and
``TARGETS``, which of labels and values it is about. Nothing outside this room knows an objective by
name: it is asked.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from metadist.discovery import Options, find, module_names, parse_options
from metadist.errors import PluginError, RecipeError
from metadist.objectives._metrics import (
    ACCURACY,
    BUILT_IN,
    MSE,
    NLL,
    ROC_AREA,
    Metric,
    check_names,
    known_metric,
    metric_name,
)

if TYPE_CHECKING:
    from torch import Tensor

    from metadist.tasks import Examples, Prediction, Targets, TaskShape

__all__ = [
    "ACCURACY",
    "BUILT_IN",
    "MSE",
    "NLL",
    "ROC_AREA",
    "Metric",
    "Objective",
    "build",
    "known_metric",
    "metric_name",
    "name_for",
    "names",
    "options",
]

#: What is taken where a recipe names none.
DEFAULTS: dict[Targets, str] = {"labels": "classification", "values": "regression"}


class Objective(ABC):
    """What predictions are trained for and judged by.

    Attributes:
        name: of its module.
        metrics: of each episode, the one that decides first.
        train_metrics: names of those that training reports of each step.
        fused: the loss as compiled kernels know it; None: they do not.
        averages: what an ensemble may average; the first if nothing else is asked.
        count_shapes: names and shapes of what ``counts`` returns.
        needs: further columns of the queries that it judges by, as ``query_weight``.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    train_metrics: ClassVar[tuple[str, ...]] = ()
    fused: ClassVar[Literal["cross_entropy", "squared_error"] | None] = None
    averages: ClassVar[tuple[str, ...]] = ("values",)
    count_shapes: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def metric(self) -> Metric:
        """The one that decides."""
        return self.metrics[0]

    @abstractmethod
    def loss(self, prediction: Prediction, target: Examples) -> Tensor:
        """A scalar to differentiate, a mean over the examples."""

    @abstractmethod
    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """Each of ``metrics`` of one episode, scalars."""

    def checked_score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """:meth:`score`.

        Raises:
            PluginError: it is not of ``metrics``.
        """
        scores, wanted = self.score(prediction, target), [metric.name for metric in self.metrics]
        if set(scores) != set(wanted):
            raise PluginError(
                f"objective {self.name!r}: score() has to return {', '.join(wanted)}, which are "
                f"its metrics; it returns {', '.join(scores) or 'nothing'}"
            )
        return scores

    def checked_pooled(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """:meth:`pooled`.

        Raises:
            PluginError: a name means something else, or a number is none.
        """
        pooled = self.pooled(sums)
        of = f"objective {self.name!r}: pooled()"
        check_names(of, [*(metric.name for metric in self.metrics), *pooled])
        for name, value in pooled.items():
            if not isinstance(value, float | int):
                raise PluginError(f"{of} has to return numbers, got {type(value)} for {name!r}")
        return {name: float(value) for name, value in pooled.items()}

    def checked_counts(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """:meth:`counts`.

        Raises:
            PluginError: they are not whole numbers of ``count_shapes``.
        """
        import torch

        counts = self.counts(prediction, target)
        found = {name: (count.dtype, tuple(count.shape)) for name, count in counts.items()}
        wanted = {name: (torch.int64, tuple(shape)) for name, shape in self.count_shapes.items()}
        if found != wanted:
            raise PluginError(
                f"objective {self.name!r}: counts() has to return {wanted or 'nothing'}, as "
                f"count_shapes says; it returns {found or 'nothing'}"
            )
        return counts

    def scale_of(self, prediction: Prediction) -> Tensor:
        """The predicted scale [n, E], for objectives that judge it.

        Raises:
            RecipeError: the learner predicts none.
        """
        if prediction.scale is None:
            raise RecipeError(
                f"objective {self.name!r} judges a predicted scale, and this learner predicts "
                "values alone; take a learner that predicts a scale, or leave objective.name out"
            )
        return prediction.scale

    def counts(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """Integers of one episode, int64 of ``count_shapes``, summed exactly over episodes."""
        return {}

    def pooled(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """What is no mean over episodes, from the sums of their counts."""
        return {}

    def average(self, predictions: Sequence[Prediction], how: str) -> Prediction:
        """Several predictions as one, float64: their mixture, by what they have in common.

        Draws are put together; a scale is that of the mixture, whose variance is the mean of
        ``scale^2 + mean^2`` without the square of the mean.
        """
        # Here, so that readers of run directories, which ask for metrics alone, do not load it.
        import torch

        from metadist.tasks import Prediction

        members = [p.double() for p in predictions]
        means = torch.stack([p.mean for p in members])
        mean, scale = means.mean(0), None
        scales = [p.scale for p in members if p.scale is not None]
        if len(scales) == len(members):
            square = (torch.stack(scales) ** 2 + means**2).mean(0) - mean**2
            scale = square.clamp_min(0.0).sqrt()
        draws = [p.samples for p in members if p.samples is not None]
        samples = torch.cat(draws) if len(draws) == len(members) else None
        return Prediction(mean, scale, samples)

    def mean(self, values: Tensor, target: Examples) -> Tensor:
        """Mean of values [n, ...] over the examples that count, and all else; a scalar."""
        if target.mask is None:
            return values.mean()
        kept = target.mask.reshape(-1, *[1] * (values.dim() - 1)).to(values.dtype)
        return (values * kept).sum() / kept.expand_as(values).sum()

    def loss_and_metrics(
        self, prediction: Prediction, target: Examples
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and what training reports."""
        loss = self.loss(prediction, target)
        return loss, self.reported(loss, prediction, target)

    def reported(self, loss: Tensor, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        """What training reports, detached: ``loss`` and ``train_metrics``."""
        metrics = {"loss": loss.detach()}
        if self.train_metrics:
            scores = self.checked_score(prediction.detach(), target)
            metrics |= {name: scores[name] for name in self.train_metrics}
        return metrics


def names() -> list[str]:
    """Names of all objectives."""
    return module_names(sys.modules[__name__])


def name_for(name: str, targets: Targets) -> str:
    """The objective that a recipe means: the named one, or that of such targets."""
    return name or DEFAULTS[targets]


def options(name: str, given: dict[str, Any]) -> Options:
    """The validated options of an objective.

    Raises:
        RecipeError: unknown objective or option.
    """
    module = find(sys.modules[__name__], name, "objective")
    parsed: Options = parse_options(module.Options, given, "objective")
    return parsed


def build(name: str, given: dict[str, Any], shape: TaskShape) -> Objective:
    """The objective ``name`` for tasks of this shape; an empty name is that of their targets.

    Raises:
        RecipeError: unknown objective or option, or one that is about other targets.
        PluginError: it is called otherwise than its module.
    """
    name = name_for(name, shape.targets)
    module = find(sys.modules[__name__], name, "objective")
    if shape.targets not in module.TARGETS:
        raise RecipeError(
            f"objective {name!r} is about {' and '.join(module.TARGETS)}, the tasks have "
            f"{shape.targets} to predict; choose other data, or leave objective.name out"
        )
    objective: Objective = module.build(options(name, given), shape)
    check_names(f"objective {name!r}", (metric.name for metric in objective.metrics))
    if (own := getattr(objective, "name", None)) != name:
        raise PluginError(
            f"objective {name!r}: its name must be {name!r} as its module is, got {own!r}; set "
            f"name = {name!r} in the class, or rename the file"
        )
    return objective
