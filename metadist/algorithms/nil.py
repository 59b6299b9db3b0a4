"""NIL: trained as ANIL, then no inner loop: in a new task queries are compared with the support.

Raghu, Raghu, Bengio & Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the
Effectiveness of MAML", ICLR 2020, section 5. In validation and test the head is dropped; a class's
logit is the cosine of the angle between what enters the head for a query and for the support. These
are bare cosines in [-1, 1]: they order the classes, their cross-entropy is no calibrated loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from metadist.algorithms import Parts, anil
from metadist.context import Context
from metadist.inner.head_loop import HeadLoop
from metadist.inner.inner_loop import AdaptedModel
from metadist.inner.passes import passed
from metadist.inner.similarity import class_means, cosine, cosine_logits
from metadist.learner import Learner, Loss
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)


class Options(anil.Options):
    compare: Literal["means", "examples"] = "examples"
    """with the mean of a class's features, or with each support example's, a class's logit being
    the mean of its cosines (the paper's labels weighted by similarity, without a softmax over the
    support); the same with one shot"""


@dataclass(frozen=True)
class Embedded(AdaptedModel):
    """The network before any step, and the support set's features [S, D] and labels int64 [S]."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class NIL(HeadLoop):
    """An inner loop in training, none in validation and test."""

    compare: Literal["means", "examples"] = "examples"

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[AdaptedModel]:
        """Training: after 0, 1, ... steps. Else one element: the support set's features."""
        if ctx.phase == "train":
            return super().adapt(params, task, ctx)
        support = task.support
        norm = self.normalisation.support(ctx)
        found, _ = passed(self.backbone, params, support.x, norm, ctx, head=False)
        return [Embedded(params, 0, support, found, support.y)]

    def predict(self, fitted: AdaptedModel, query: Examples, ctx: Context) -> Prediction:
        """Logits [n, N] for n queries."""
        if not isinstance(fitted, Embedded):
            return super().predict(fitted, query, ctx)
        norm = self.query_norm(fitted, ctx)
        found, _ = passed(self.backbone, fitted.params, query.x, norm, ctx, head=False)
        if self.compare == "means":
            means = class_means(fitted.features, fitted.labels, self.ways)
            return Prediction(cosine(found, means))
        return Prediction(cosine_logits(found, fitted.features, fitted.labels, self.ways))

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """ANIL's in training, else the cross-entropy of the cosines."""
        if ctx.phase == "train":
            return super().loss(params, task, ctx)
        return Learner.loss(self, params, task, ctx)


def build(parts: Parts[Options]) -> NIL:
    trained = anil.build(parts)
    return NIL(**vars(trained), compare=parts.options.compare)
