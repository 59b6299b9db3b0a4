"""Prototypical networks: a query belongs to the class whose mean is nearest in a learned space.

Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, equations 1
and 2. The mean of a class's support features is its prototype, and queries are told apart by their
distance d to it:

    c_k = mean over class k of f(x_i);    p(y = k | x) = softmax_k(-d(f(x), c_k))

The squared Euclidean distance makes this a linear classifier of features, with weights 2 c_k and
biases -|c_k|^2 (section 2.4 there); with it the published figures were reached, trained with more
ways than tested with.

The encoder is learned; nothing is adapted to a task by gradients.

With ``prototypes = "attributes"`` no image of a class is looked at (section 2.7 there, zero-shot):
a prototype is a learned linear map of the attributes v_k of its class (``data.attributes``), and of
unit length, which features are not (section 3.3):

    c_k = (W v_k + b) / |W v_k + b|
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.blocks.linear import Linear
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.similarity import class_means, cosine, squared_distances
from metadist.keys import Key
from metadist.learner import Explanation, Loss
from metadist.tasks import Params, Task

TARGETS = ("labels",)
#: The column of a task that has the attributes of its classes, [N, A].
ATTRIBUTES = "class_attributes"


class Options(OptionsBase):
    metric: Literal["squared_euclidean", "cosine"] = "squared_euclidean"
    """what is near a prototype"""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """factor of distances or cosines before the softmax (published: 1)"""
    prototypes: Literal["support", "attributes"] = "support"
    """the mean of a class's support features, or a learned linear map of its attributes
    (`data.attributes`), which knows no image of the class"""


@dataclass(frozen=True)
class ProtoNet(EmbeddingLearner):
    """What queries are compared with are the prototypes [N, D].

    Attributes:
        attribute_map: from attributes to features; None: there are none.
        attributes: [N, A], of the task that it is bound to; see :meth:`bound`.
    """

    options: Options
    attribute_map: Linear | None = None
    attributes: Tensor | None = field(default=None, kw_only=True)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.attribute_map is None else frozenset({ATTRIBUTES})

    def init(self, key: Key) -> Params:
        """The encoder's parameters, and those of the map of attributes."""
        own = {} if self.attribute_map is None else self.attribute_map.init(key)
        return {**self.encoder.init(key), **own}

    def bound(self, task: Task) -> ProtoNet:
        """This learner bound to the attributes of a task's classes; itself where it has no map."""
        return (
            self if self.attribute_map is None else replace(self, attributes=task.info[ATTRIBUTES])
        )

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Embedded]:
        return super(ProtoNet, self.bound(task)).adapt(params, task, ctx)

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        return super(ProtoNet, self.bound(task)).loss(params, task, ctx)

    def known(self, params: Params, features: Tensor, labels: Tensor) -> Tensor:
        if self.attribute_map is None:
            return class_means(features, labels, self.ways)
        assert self.attributes is not None
        return F.normalize(self.attribute_map(params, self.attributes), dim=1)

    def compared(
        self, params: Params, known: Tensor, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Minus the squared distance to each prototype, or the cosine; times the scale."""
        if self.attribute_map is None or self.options.metric == "cosine":
            return self.near(queries, known), {}
        # To all prototypes of unit length a query without features is as near, to the bit.
        squares = queries.square().sum(1, keepdim=True) - 2 * (queries @ known.T) + 1
        return -self.options.scale * squares, {}

    def near(self, queries: Tensor, others: Tensor) -> Tensor:
        """The same [Q, n] of features [Q, D] and any others [n, D]."""
        scale = self.options.scale
        if self.options.metric == "cosine":
            return scale * cosine(queries, others)
        return -scale * squared_distances(queries, others)

    def paired(self, fitted: Embedded, queries: Tensor) -> Tensor:
        """Each support example as a prototype of its own."""
        return self.near(queries, fitted.features)

    def explained(self, fitted: Embedded, queries: Tensor) -> Explanation:
        return Explanation(fitted.features, queries, prototypes=fitted.known)


def build(parts: Parts[Options]) -> ProtoNet:
    encoder, shape, mapped = parts.encoder, parts.shape, None
    if parts.options.prototypes == "attributes":
        if not shape.attributes:
            raise RecipeError(
                "algorithm.prototypes: classes have no attributes here to make prototypes of; set "
                "data.attributes = true, or algorithm.prototypes = 'support'"
            )
        size = math.prod(feature_shape(encoder, shape.inputs))
        mapped = Linear("attributes", shape.attributes, size)
    return ProtoNet(
        objective=parts.objective,
        encoder=encoder,
        ways=shape.ways,
        options=parts.options,
        attribute_map=mapped,
    )
