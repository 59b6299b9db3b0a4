"""TAML: MAML with a term against an initialisation that favours some tasks.

Jamal & Qi, "Task Agnostic Meta-Learning for Few-Shot Learning", CVPR 2019, section 3. ``entropy``
(classification) adds to each task's loss

    weight * (H(f_phi(queries)) - H(f_theta(queries)))

with the mean entropy H of predictions after (phi) and before (theta) adaptation. The others add
``weight`` times the inequality of the losses that the tasks of a step have before adaptation. That
is no mean over tasks: each task's gradient needs the losses of all, which all workers exchange. A
task whose loss is not finite does not count among them; one that diverges only while it adapts
does, though ``engine.on_nonfinite = "skip"`` leaves its part of the gradient out.

No weight has been published that could be checked; choose it on validation tasks. With weight 0 it
is MAML, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from metadist.algorithms import Parts
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.tasks import Params, Prediction, Task

Measure = Literal["theil", "generalised_entropy", "atkinson", "gini", "variance_of_logs"]

#: Shares below this count as this: the logarithm of 0 has no slope.
FLOOR = 1e-6


class Options(OptionsBase):
    variant: Literal["entropy"] | Measure = "theil"
    """the term that is added"""
    weight: Annotated[float, Field(ge=0)] = 0.1
    """factor of the term; 0: MAML"""
    losses: Literal["query", "support"] = "query"
    """whose losses before adaptation are to be equal"""
    alpha: float = 2.0
    """of `generalised_entropy`; 1: Theil's"""
    epsilon: Annotated[float, Field(gt=0)] = 0.5
    """of `atkinson`"""
    first_order: bool = False
    """take the inner gradients as constants"""

    @model_validator(mode="after")
    def _idle(self) -> Self:
        if self.variant != "generalised_entropy":
            self.refuse_idle("variant 'generalised_entropy'", "alpha")
        if self.variant != "atkinson":
            self.refuse_idle("variant 'atkinson'", "epsilon")
        if self.variant == "entropy":
            self.refuse_idle("a measure of inequality", "losses")
        return self


@dataclass(frozen=True)
class Inequality:
    """How unequal numbers are, as economists measure it (section 3.2): 0 if they are equal.

    With r_i = l_i / mean(l) and B numbers:

        theil               mean(r ln r), at most ln B
        generalised_entropy mean(r^a - 1) / (a (a - 1));  a = 1: theil;  a = 0: -mean(ln r)
        atkinson            1 - mean(r^(1 - e))^(1 / (1 - e));  e = 1: 1 - exp(mean(ln r))
        gini                mean_ij |r_i - r_j| / 2, below 1
        variance_of_logs    variance of ln r

    Attributes:
        alpha: a of the generalised entropy.
        epsilon: e of Atkinson's measure, above 0: aversion to inequality.
    """

    measure: Measure
    alpha: float = 2.0
    epsilon: float = 0.5

    def __call__(self, values: Tensor, counted: Tensor) -> Tensor:
        """Inequality, a scalar, of those of the positive ``values`` [B] that are ``counted``."""
        share = counted.to(values.dtype) / counted.sum()
        values = torch.where(counted, values, 0.0)
        mean = (share * values).sum().clamp_min(torch.finfo(values.dtype).tiny)
        r = torch.where(counted, values / mean, 1.0).clamp_min(FLOOR)
        match self.measure:
            case "theil":
                return _generalised_entropy(r, share, 1.0)
            case "generalised_entropy":
                return _generalised_entropy(r, share, self.alpha)
            case "atkinson":
                return _atkinson(r, share, self.epsilon)
            case "gini":
                return (share * (share * (r[:, None] - r).abs()).sum(1)).sum() / 2
            case "variance_of_logs":
                logs = r.log()
                return (share * (logs - (share * logs).sum()) ** 2).sum()


def _generalised_entropy(r: Tensor, share: Tensor, alpha: float) -> Tensor:
    if alpha == 1.0:
        return (share * r * r.log()).sum()
    if alpha == 0.0:
        return -(share * r.log()).sum()
    return (share * (r**alpha - 1.0)).sum() / (alpha * (alpha - 1.0))


def _atkinson(r: Tensor, share: Tensor, epsilon: float) -> Tensor:
    if epsilon == 1.0:
        return 1.0 - (share * r.log()).sum().exp()
    return 1.0 - (share * r ** (1.0 - epsilon)).sum() ** (1.0 / (1.0 - epsilon))


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy, in nats, of the predictions of logits [n, N]; a scalar."""
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1).mean()


@dataclass(frozen=True)
class TAML(InnerLoop):
    """An inner loop whose loss has one term more.

    Attributes:
        weight: its factor; 0: none.
        inequality: the measure; None: entropies instead.
        losses: of which set the measure takes the losses.
    """

    weight: float = 0.0
    inequality: Inequality | None = None
    losses: Literal["query", "support"] = "query"

    @property
    def step_scalar_names(self) -> tuple[str, ...]:
        return ("before",) if self.weight and self.inequality else ()

    def step_scalars(self, params: Params, task: Task, ctx: Context) -> dict[str, Tensor]:
        return {"before": self._before(params, task, ctx)}

    def _predicted_before(self, params: Params, task: Task, ctx: Context) -> Prediction:
        return self.predict(AdaptedModel(params, 0, task.support), task.query, ctx)

    def _before(self, params: Params, task: Task, ctx: Context) -> Tensor:
        if self.losses == "query":
            return self.objective.loss(self._predicted_before(params, task, ctx), task.query)
        passed = self.backbone.forward(params, task.support.x, self.normalisation.support(ctx))
        return self.objective.loss(Prediction(passed.value), task.support)

    def regulariser(
        self, params: Params, task: Task, fitted: AdaptedModel, prediction: Prediction, ctx: Context
    ) -> Tensor | None:
        """The term: its mean over the tasks of a step has the gradient that it should have."""
        if not self.weight or ctx.phase != "train":
            return None
        if self.inequality is None:
            before = self._predicted_before(params, task, ctx)
            return self.weight * (entropy(prediction.mean) - entropy(before.mean))
        own = self._before(params, task, ctx)
        return self.weight * self._share(self.inequality, own, ctx.step_scalars["before"], task)

    def _share(self, inequality: Inequality, own: Tensor, everyones: Tensor, task: Task) -> Tensor:
        """This task's share of the inequality I of all B losses, the others being constants.

        I + B (I(own) - I): over the tasks, values average to I and gradients to its gradient.
        """
        counted = everyones.isfinite()
        place = torch.arange(len(everyones), device=own.device) == task.slot
        now = inequality(everyones, counted)
        moved = inequality(torch.where(place, own, everyones), counted)
        return now + counted.sum() * (moved - now)


def build(parts: Parts[Options]) -> TAML:
    """The learner.

    Raises:
        RecipeError: entropies of values, which have none.
    """
    options = parts.options
    if options.variant == "entropy" and not parts.shape.ways:
        raise RecipeError(
            "algorithm.variant: 'entropy' is of predicted classes, the data are tasks of "
            f"{parts.objective.name}; choose a measure of inequality, such as 'theil'"
        )
    return parts.inner_loop(
        TAML,
        second_order=not options.first_order,
        weight=options.weight,
        inequality=None
        if options.variant == "entropy"
        else Inequality(options.variant, options.alpha, options.epsilon),
        losses=options.losses,
    )
