"""Parts from outside, as their authors would write them."""

from __future__ import annotations

from pathlib import Path

#: MAML that follows the sign of the gradient, to first order.
SIGN_MAML = '''"""MAML whose inner steps follow the sign of the gradient."""

from dataclasses import dataclass, replace

from metadist.algorithms import Parts, maml
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import InnerStep
from metadist.inner.sgd import SGD
from metadist.tasks import Params

PART = "algorithm"
Options = maml.Options


@dataclass(frozen=True)
class SignSGD(SGD):
    """phi - lr * sign(gradient)."""

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        """One step."""
        signs = {n: g.sign() for n, g in gradients.items()}
        return super().update(signs, state, adapted, step)


def build(parts: Parts) -> InnerLoop:
    """The learner."""
    return replace(maml.build(parts, second_order=False), optimizer=SignSGD())
'''

#: An MLP under another name.
BACKBONE = '''"""An MLP."""

from metadist.backbones import mlp

PART = "backbone"
Options = mlp.Options
build = mlp.build
'''

#: Lines y = a x.
FUNCTION = '''"""Lines through the origin."""

from data_pipeline.functions import FunctionSpec

PART = "function"
SPEC = FunctionSpec("{name}", "y = a x", inputs=1, outputs=1, latent=("slope",), version=1)


def draw(stream, points, part):
    """One line: x [points, 1], y [points, 1], latent [slope]."""
    numbers = stream.uniforms(1 + points)
    x = 2.0 * numbers[1:, None] - 1.0
    return x, numbers[0] * x, numbers[:1]
'''

#: Grey squares that make themselves.
DATASET = '''"""Squares of one grey level for each class."""

import numpy as np

from data_pipeline.datasets import DatasetSpec, PARTS, RawImage

PART = "dataset"
SPEC = DatasetSpec(
    "{name}", "squares", "Apache-2.0", (8, 8, 1), splits=("default",), version=1, embedded=True
)


def iter_images(source=None, split="", **options):
    """Five classes of four images in each part."""
    for number, part in enumerate(PARTS):
        for kind in range(5):
            for copy in range(4):
                pixels = np.full((8, 8, 1), 16 * (5 * number + kind) + copy, dtype=np.uint8)
                yield RawImage(part, f"square{{5 * number + kind:02d}}", str(copy), pixels)
'''


def write(path: Path, text: str) -> Path:
    """A module file; ``{name}`` in it becomes its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given = text.format(name=path.stem) if "{name}" in text else text
    path.write_text(given, encoding="utf-8")
    return path


def install(site: Path, distribution: str, modules: dict[str, str], **announced: str) -> None:
    """A distribution in a folder, as an installer leaves it.

    Args:
        modules: source by module name.
        announced: module by entry point, with ``__`` for the dot: ``algorithm__toy="my.toy"``.
    """
    for name, text in modules.items():
        write(site / f"{name.replace('.', '/')}.py", text)
    info = site / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = [f"{point.replace('__', '.')} = {module}" for point, module in announced.items()]
    (info / "entry_points.txt").write_text(
        "\n".join(["[metadist.parts]", *lines, ""]), encoding="utf-8"
    )


def module_net(*, init: str = "key.module(make)", constant: str = "0.0", added: str = "0.0") -> str:
    """A backbone around a module.

    Args:
        init: the module whose parameters are the fresh ones; ``make`` makes one.
        constant: made once with the network, as ``self.constant``.
        added: to the outputs of each pass.
    """
    return f'''"""A module of torch's as a network."""

import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from metadist.backbones import Backbone, Layer, Output, mlp

PART = "backbone"
Options = mlp.Options


def make():
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


@dataclass(frozen=True)
class Net(Backbone):
    """Its module says how, its parameters are given."""

    module: nn.Module
    constant: Any

    layers = (Layer("0", 8, True), Layer("2", 1, True))

    def init(self, key):
        return {{name: p.detach() for name, p in ({init}).named_parameters()}}

    def forward(self, params, x, norm, *, head=True, layer_hook=None):
        own = {{name: params[name] for name, _ in self.module.named_parameters()}}
        y = functional_call(self.module, own, (x,)) + {added}
        return Output(y, y, {{}}, {{"2": y}})


def build(options, shape):
    with torch.device("meta"):
        module = make()
    return Net(module, {constant})
'''


def noisy(method: str, body: str) -> str:
    """MAML with a method of its inner loop replaced: its whole head, and its body in one line."""
    return f'''"""MAML that draws where it should not."""

import torch

from metadist.algorithms import maml
from metadist.inner.inner_loop import InnerLoop

PART = "algorithm"
Options = maml.Options


class Noisy(InnerLoop):
    """Draws from torch's own generator."""

    def {method}:
        {body}


def build(parts):
    plain = maml.build(parts)
    return Noisy(**{{name: getattr(plain, name) for name in plain.__dataclass_fields__}})
'''


#: Episodes of a kind of their own: labelled points in the plane, with a column beside them.
EPISODES = '''"""Clusters of points in the plane."""

import numpy as np

from data_pipeline.episode_sources import SourceSpec
from data_pipeline.episodes.sources import identity_of
from data_pipeline.episodes.types import EpisodeBatch, stack
from data_pipeline.rng import Stream, fold

PART = "episode_source"
SPEC = SourceSpec("{name}", "clusters of points in the plane", version=1)


class Clusters:
    def __init__(self, part, spec, seed):
        self.identity = identity_of(SPEC, part, spec, seed)
        self._key = fold("clusters", part, seed)
        self.schema = self.episodes([0]).schema

    def _one(self, index):
        spec = self.identity.spec
        stream = Stream(self._key, index)
        centres = 4.0 * stream.uniforms(2 * spec.ways).reshape(spec.ways, 2)
        columns = {{"centres": centres}}
        for name, each in (("support", spec.shots), ("query", spec.queries)):
            labels = np.array(stream.permutation(spec.ways * each)) % spec.ways
            noise = stream.uniforms(2 * len(labels)).reshape(-1, 2)
            columns[name + "_x"] = (centres[labels] + noise).astype(np.float32)
            columns[name + "_y"] = labels
            columns[name + "_mask"] = noise[:, 0] < 0.9
        batch = {{name: column[None] for name, column in columns.items()}}
        return EpisodeBatch(np.array([index]), batch)

    def episodes(self, ids):
        return stack([self._one(int(i)) for i in ids])


def open(part, spec, seed):
    """Points of clusters."""
    return Clusters(part, spec, seed)
'''
