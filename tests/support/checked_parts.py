"""Parts that keep their contract, one of each kind, in which tests plant faults."""

from __future__ import annotations

LEARNER = '''"""Nearest prototypes.

Snell, Swersky & Zemel, "Prototypical Networks for Few-shot Learning", 2017.
"""

from dataclasses import dataclass
from typing import Any

import torch

from metadist.discovery import Options as OptionsBase
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.learner import Loss
from metadist.tasks import Prediction

PART = "algorithm"
TARGETS = ("labels",)


class Options(OptionsBase):
    """``temperature``: of the distances."""

    temperature: float = 1.0


@dataclass(frozen=True)
class Prototypes(Normalised):
    """Queries go to the nearest mean of a class."""

    objective: Any
    encoder: Any
    ways: int
    options: Any

    @property
    def normalisation(self):
        return Normalisation(self.encoder, per_step=False)

    def init(self, key):
        return self.encoder.init(key)

    def adapt(self, params, task, ctx):
        return [self.means(params, task, ctx)[0]]

    def means(self, params, task, ctx):
        passed = self.encoder.forward(params, task.support.x, self.normalisation.support(ctx))
        y = task.support.y
        members = (y[:, None] == torch.arange(self.ways)).to(passed.value.dtype)
        means = members.T @ passed.value / members.sum(0)[:, None]
        return (params, means, task.support), passed.statistics

    def predict(self, fitted, query, ctx):
        params, means, support = fitted
        norm = self.normalisation.query(params, support, ctx)
        found = self.encoder.forward(params, query.x, norm).value
        away = (found[:, None] - means).square().sum(-1)
        return Prediction(-away / self.options.temperature)

    def loss(self, params, task, ctx):
        fitted, statistics = self.means(params, task, ctx)
        prediction = self.predict(fitted, task.query, ctx)
        value, metrics = self.objective.loss_and_metrics(prediction, task.query)
        training = ctx.phase == "train"
        sums = self.normalisation.sums([statistics] if training else [])
        return Loss(value, metrics, sums)


def build(parts):
    return Prototypes(parts.objective, parts.encoder, parts.shape.ways, parts.options)
'''

#: With an inner loop, for functions.
LOOP = '''"""MAML with a word of its own."""

from metadist.discovery import Options as OptionsBase
from metadist.inner.inner_loop import InnerLoop

PART = "algorithm"
TARGETS = ("values",)


class Options(OptionsBase):
    """None."""


class Own(InnerLoop):
    """MAML."""


def build(parts):
    return parts.inner_loop(Own)
'''

BACKBONE = '''"""A convolution, normalisation and a hidden layer."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from metadist.backbones import Backbone, Layer, Output
from metadist.backbones._norm import normalise
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError

PART = "backbone"


class Options(OptionsBase):
    """``filters`` of the convolution."""

    filters: Annotated[int, Field(ge=1)] = 4


@dataclass(frozen=True)
class Small(Backbone):
    """Images [n, C, H, W] to outputs."""

    channels: int
    filters: int
    outputs: int

    @property
    def layers(self):
        return (Layer("conv", self.filters, False), Layer("head", self.outputs, True))

    @property
    def norm_layers(self):
        return {"norm": self.filters}

    @property
    def norm_parameters(self):
        return frozenset({"norm.scale", "norm.shift"})

    def init(self, key):
        size = (self.filters, self.channels, 3, 3)
        return {
            "conv.weight": key.fold("conv").normal(size) / 3,
            "norm.scale": torch.ones(self.filters),
            "norm.shift": torch.zeros(self.filters),
            "head.weight": key.fold("head").normal((self.outputs, self.filters)),
            "head.bias": torch.zeros(self.outputs),
        }

    def forward(self, params, x, norm, *, head=True, layer_hook=None):
        statistics, hook = {}, layer_hook or (lambda name, value: value)
        x = hook("conv", F.conv2d(x, params["conv.weight"], stride=2))
        x = normalise(x, "norm", params["norm.scale"], params["norm.shift"], norm, statistics)
        features = torch.tanh(x).mean((2, 3))
        if not head:
            return Output(features, features, statistics, {})
        value = hook("head", F.linear(features, params["head.weight"], params["head.bias"]))
        return Output(value, features, statistics, {"head": value})


def build(options, shape):
    if len(shape.inputs) != 3:
        raise RecipeError("it needs images")
    return Small(shape.inputs[0], options.filters, shape.outputs)
'''

OBJECTIVE = '''"""Laplace's density of values, and how many lie within two scales."""

import math

import torch

from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.objectives import Metric, Objective

PART = "objective"
TARGETS = ("values",)


class Options(OptionsBase):
    """None."""


class Laplace(Objective):
    """Mean and scale [n, E] against values [n, E]."""

    name = "{name}"
    metrics = (
        Metric("laplace", "negative log-density", higher_is_better=False),
        Metric("error", "mean absolute error", higher_is_better=False),
    )
    train_metrics = ("error",)
    count_shapes = {{"near": (), "values": ()}}

    def loss(self, prediction, target):
        if prediction.scale is None:
            raise RecipeError("a scale is needed, and this learner predicts none")
        away = (target.y - prediction.mean).abs() / prediction.scale
        return (away + (2 * prediction.scale).log()).mean()

    def score(self, prediction, target):
        error = (target.y - prediction.mean).abs().mean()
        return {{"laplace": self.loss(prediction, target), "error": error}}

    def counts(self, prediction, target):
        away = (target.y - prediction.mean).abs() / prediction.scale
        return {{"near": (away < 2).sum(), "values": torch.tensor(away.numel())}}

    def pooled(self, sums):
        return {{"near": int(sums["near"]) / int(sums["values"]) if sums["values"] else math.nan}}


def build(options, shape):
    return Laplace()
'''

DATASET = '''"""Grey squares."""

import numpy as np

from data_pipeline.datasets import PARTS, DatasetSpec, RawImage

PART = "dataset"
SPEC = DatasetSpec("{name}", "grey squares", "CC0", (8, 8, 1), ("default",), 1, embedded=True)


def iter_images(source=None, split="default", **options):
    for number, part in enumerate(PARTS):
        for kind in range(5):
            for copy in range(4):
                level = 16 * (5 * number + kind) + copy
                pixels = np.full((8, 8, 1), level, dtype=np.uint8)
                yield RawImage(part, f"square{{5 * number + kind:02d}}", str(copy), pixels)
'''

FUNCTION = '''"""Straight lines."""

import numpy as np

from data_pipeline.functions import FunctionSpec

PART = "function"
SPEC = FunctionSpec("{name}", "y = a x", inputs=1, outputs=1, latent=("slope",), version=1)


def draw(stream, points, part):
    numbers = stream.uniforms(1 + points)
    x = numbers[1:, None] - 0.5
    return x, numbers[0] * x, numbers[:1]
'''

SOURCE = '''"""Points around centres."""

import numpy as np

from data_pipeline.episode_sources import SourceSpec
from data_pipeline.episodes.sources import identity_of
from data_pipeline.episodes.types import EpisodeBatch, stack
from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold

PART = "episode_source"
SPEC = SourceSpec("{name}", "points around centres", version=1)


class Clusters:
    def __init__(self, part, spec, seed):
        if not spec.ways:
            raise DataError("points: data.ways >= 2 is needed, got 0")
        self.identity = identity_of(SPEC, part, spec, seed)
        self._key = fold("points", part, seed)
        self.schema = self.episodes([0]).schema

    def _one(self, index):
        spec = self.identity.spec
        centres = 4.0 * Stream(self._key, index).uniforms(2 * spec.ways).reshape(-1, 2)
        columns = {{}}
        for name, each in (("support", spec.shots), ("query", spec.queries)):
            own = Stream(fold(self._key, name), index)
            labels = np.arange(spec.ways * each) % spec.ways
            noise = own.uniforms(2 * len(labels)).reshape(-1, 2)
            columns[f"{{name}}_x"] = (centres[labels] + noise).astype(np.float32)
            columns[f"{{name}}_y"] = labels
        one = {{name: column[None] for name, column in columns.items()}}
        return EpisodeBatch(np.array([index]), one)

    def episodes(self, ids):
        return stack([self._one(int(i)) for i in ids])


def open(part, spec, seed):
    return Clusters(part, spec, seed)
'''

SPACE = '''"""The inner rate of MAML."""

from metadist.space import LogUniform, Space

PART = "tune_space"
SPACE = Space(
    about="the inner rate",
    base="sinusoid-10shot-maml",
    search={"inner.lr": LogUniform(1e-3, 1e-1)},
    metric="val/mse",
    mode="min",
    steps=10,
    every=5,
)
'''

PARTS = {
    "prototypes": LEARNER,
    "own_maml": LOOP,
    "small": BACKBONE,
    "laplace": OBJECTIVE,
    "squares": DATASET,
    "lines": FUNCTION,
    "points": SOURCE,
    "rates": SPACE,
}
