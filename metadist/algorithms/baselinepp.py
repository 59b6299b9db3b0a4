"""Baseline++: a network that was trained to tell all training classes apart by cosines.

Chen, Liu, Kira, Wang & Huang, "A Closer Look at Few-shot Classification", ICLR 2019, section 3.2.
Joint training has the classifier

    p(y = k | x) = softmax_k(s cos(f(x), w_k))

of all training classes. In a new task the network is kept and a fresh classifier of the same form
is trained on its features of the support set, by SGD with momentum and weight decay on mini-batches
(section A1: 100 epochs of mini-batches of 4). As published it starts anywhere (``start =
"drawn"``); the default is to start where it is right after few steps already, at the mean direction
of each class (Qi, Brown & Lowe, "Low-Shot Learning with Imprinted Weights", CVPR 2018).

It learns features whose classes are narrow; it never sees a few-shot task in training. Each class
of the released code has a learned factor as well (weight normalisation), which is not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.algorithms.reptile import shuffled
from metadist.backbones import Layer, Norm, Output, Statistics
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.inner.backbone_wrapper import BackboneWrapper, Encoder
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.passes import passed
from metadist.inner.pretraining import Pretraining, joint_shape
from metadist.inner.similarity import class_means, cosine
from metadist.keys import Key
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)
#: The factor of cosines in the released code: among many classes their softmax has to be steep.
SCALE, MANY, SCALE_OF_MANY = 2.0, 200, 10.0


class Options(OptionsBase):
    scale: Annotated[float, Field(ge=0)] = 0.0
    """factor of the cosines; 0: 2, among more than 200 classes 10 (as released)"""
    start: Literal["means", "drawn"] = "means"
    """of a new task's classifier: the mean direction of each class's features, or a draw per task
    (published)"""
    batch: Annotated[int, Field(ge=0)] = 4
    """support examples of a step in a new task; 0: all"""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """of the steps in a new task; gradients are damped as much"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.001
    """of the steps in a new task"""


def drawn(key: Key, classes: int, size: int) -> Tensor:
    """Weights [classes, D] uniform in +-1/sqrt(D)."""
    return (2 * key.uniform((classes, size)) - 1) / math.sqrt(size)


@dataclass(frozen=True)
class CosineHead(BackboneWrapper):
    """A network whose head compares features with a weight vector for each class.

    Attributes:
        scale: of the cosines.
    """

    scale: float

    @property
    def layers(self) -> tuple[Layer, ...]:
        *body, head = self.network.layers
        return (*body, Layer(head.name, head.outputs, bias=False))

    def init(self, key: Key) -> Params:
        """The network's parameters with other ones of the head, which has no bias."""
        params, (head, *bias) = self.network.init(key), self.network.layers[-1].parameters
        classes, size = params[head].shape
        own = {head: drawn(key.fold("cosine head"), classes, size)}
        return {n: p for n, p in {**params, **own}.items() if n not in bias}

    def classified(self, params: Params, features: Tensor) -> Tensor:
        """Logits [n, N] of features [n, D]."""
        return self.scale * cosine(features, params[f"{self.layers[-1].name}.weight"])

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        output = self.network.forward(params, x, norm, **{**how, "head": False})
        if not how.get("head", True):
            return output
        name, value = self.layers[-1].name, self.classified(params, output.value)
        if (hook := how.get("layer_hook")) is not None:
            value = hook(name, value)
        activations = {**output.activations, name: value}
        return Output(value, output.features, output.statistics, activations)

    def fused_value(
        self, params: Params, x: Tensor, norm: Norm, *, head: bool = True
    ) -> tuple[Tensor, Statistics] | None:
        below = self.network.fused_value(params, x, norm, head=False)
        if below is None or not head:
            return below
        features, statistics = below
        return self.classified(params, features), statistics


@dataclass(frozen=True)
class Tuned:
    """The network, the support set for its normalisation, and a classifier [N, D]."""

    params: Params
    support: Examples
    weights: Tensor


@dataclass(frozen=True)
class BaselinePP(Pretraining):
    """Joint training; in a new task a classifier of features.

    Attributes:
        size: D, numbers of an example's features.
        scale: of the cosines in a new task.
        loss_factor: of the support loss.
    """

    options: Options
    size: int
    scale: float
    loss_factor: float

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The new classifier where it is drawn, and numbers that put the examples in order."""
        noise: dict[str, Tensor] = {}
        if self.options.start == "drawn":
            noise["weights"] = drawn(key.fold("weights"), self.ways, self.size)
        if wanted := ctx.inner_steps * self.options.batch:
            noise["order"] = key.fold("order").uniform((wanted,), torch.float64)
        return noise

    def features(self, params: Params, x: Tensor, norm: Norm, ctx: Context) -> Tensor:
        """Features [n, D] of examples."""
        return passed(self.network, params, x, norm, ctx, head=False)[0]

    def classified(self, weights: Tensor, features: Tensor) -> Tensor:
        """Logits [n, N] of features [n, D]."""
        return self.scale * cosine(features, weights)

    def batches(
        self, features: Tensor, support: Examples, ctx: Context
    ) -> Sequence[tuple[Tensor, Examples]]:
        """What each step learns from, of the support set."""
        if "order" not in ctx.noise:
            return [(features, support)] * ctx.inner_steps
        rows = shuffled(ctx.noise["order"], len(support)).reshape(ctx.inner_steps, -1)
        return [(features[row], support[row]) for row in rows]

    def slope(self, weights: Tensor, features: Tensor, examples: Examples, ctx: Context) -> Tensor:
        """Of the support loss and the decay, at weights [N, D]."""

        def loss(p: Params) -> tuple[Tensor, tuple[()]]:
            prediction = Prediction(self.classified(p["weights"], features))
            return self.loss_factor * self.objective.loss(prediction, examples), ()

        gradients, _ = ctx.grad(loss, {"weights": weights})
        return gradients["weights"] + self.options.weight_decay * weights

    def first(self, features: Tensor, labels: Tensor, ctx: Context) -> Tensor:
        """The classifier [N, D] before the first step."""
        if self.options.start == "drawn":
            return ctx.noise["weights"].to(features.dtype)
        return class_means(F.normalize(features, dim=1), labels, self.ways)

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[Tuned]:
        """One element, after ``ctx.inner_steps`` steps."""
        support, momentum = task.support, self.options.momentum
        norm = self.normalisation.support(ctx)
        features = self.features(params, support.x, norm, ctx).detach()
        weights = self.first(features, support.y, ctx)
        velocity = None
        for seen, examples in self.batches(features, support, ctx):
            slope = self.slope(weights, seen, examples, ctx)
            # As torch's: the first slope is not damped.
            velocity = slope if velocity is None else momentum * velocity + (1 - momentum) * slope
            weights = weights - ctx.inner_lr * velocity
        return [Tuned(params, support, weights)]

    def predict(self, fitted: Tuned, query: Examples, ctx: Context) -> Prediction:
        """Logits [n, N] of n queries."""
        norm = self.normalisation.query(fitted.params, fitted.support, ctx)
        features = self.features(fitted.params, query.x, norm, ctx)
        return Prediction(self.classified(fitted.weights, features))


def build(parts: Parts[Options]) -> BaselinePP:
    options, shape = parts.options, parts.shape
    joint = joint_shape(shape)

    def scale(classes: int) -> float:
        return options.scale or (SCALE_OF_MANY if classes > MANY else SCALE)

    network = CosineHead(parts.network(joint), scale(joint.ways))
    return BaselinePP(
        network=network,
        objective=parts.objective,
        ways=shape.ways,
        options=options,
        size=math.prod(feature_shape(Encoder(network), shape.inputs)),
        scale=scale(shape.ways),
        loss_factor=shape.ways if parts.inner_loss == "sum_over_ways" else 1,
    )
