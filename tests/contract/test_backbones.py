"""What every network keeps: those of the package, and a module of a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist import algorithms, backbones, plugins
from metadist.backbones import Backbone, Norm
from metadist.compute.learners import build, context
from metadist.compute.strategies import ChunkResult, Loop, Vmap
from metadist.keys import Key
from metadist.learner import Learner
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, TaskBatch, TaskShape
from tests.numerics.reference import DIFFERENCES, EXACT, distance

KEY = Key.of("backbones")
TASKS, WAYS, SHOTS, CLASSES = 3, 3, 2, 5
#: Of a central difference: so short that it seldom meets one of the many kinks of a wide network.
STEP = 1e-8
IMAGES = TaskShape((2, 16, 16), WAYS, ways=WAYS, classes=CLASSES)
#: Options that make them small.
SMALL: dict[str, dict[str, Any]] = {
    "conv4": {"filters": 3},
    "mlp": {"hidden": 5, "activation": "tanh"},
    "resnet12": {"filters": 2},
}
OWN = '''"""A residual network as people write it."""

from torch import nn

import metadist

PART = "backbone"


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def make(inputs, outputs, width: int = 3):
    """Two blocks and a linear layer."""
    body = [Block(inputs[0], width), Block(width, 2 * width), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(2 * width, outputs))


Options, build = metadist.from_module(make)
'''
NAMES = [*backbones.names(), "own_net"]
each_backbone = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", autouse=True)
def _own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    path = tmp_path_factory.mktemp("own") / "own_net.py"
    path.write_text(OWN, encoding="utf-8")
    with plugins.use(Path(path)):
        yield


def network(name: str, shape: TaskShape = IMAGES) -> Backbone:
    return backbones.build(name, SMALL.get(name, {}), shape)


def moved(params: Params) -> Params:
    """Parameters in float64, none of them 0 or 1."""
    noise = {name: KEY.fold(name).normal(p.shape, torch.float64) for name, p in params.items()}
    return {name: p.double() + 0.1 * noise[name] for name, p in params.items()}


def norm_of(built: Backbone) -> Norm:
    return Norm("batch" if built.norm_layers else "off", record=True)


X = KEY.normal((5, *IMAGES.inputs), torch.float64)


@each_backbone
def test_fresh_parameters_depend_on_the_key_alone(name: str):
    first, second = network(name).init(KEY), network(name).init(KEY)
    other = network(name).init(KEY.fold("other"))
    assert list(first) == list(second)
    assert all(torch.equal(p, second[n]) for n, p in first.items())
    assert any(not torch.equal(p, other[n]) for n, p in first.items())
    for p in first.values():
        assert p.dtype == torch.float32
        assert p.device.type == "cpu"
        assert not p.requires_grad


@each_backbone
def test_a_pass_is_a_pure_function(name: str):
    built = network(name)
    params = moved(built.init(KEY))
    before = {n: p.clone() for n, p in params.items()}
    x = X.clone()
    first, second = (built.forward(params, x, norm_of(built)) for _ in range(2))
    assert torch.equal(first.value, second.value)
    assert torch.equal(x, X)
    assert all(torch.equal(p, before[n]) for n, p in params.items())
    assert first.value.shape == (5, WAYS)
    assert first.value.dtype == torch.float64
    assert set(first.statistics) == set(built.norm_layers)
    assert all(tuple(m.shape) == (built.norm_layers[n],) for n, (m, _) in first.statistics.items())
    single = built.forward({n: p.float() for n, p in params.items()}, X.float(), norm_of(built))
    assert single.value.dtype == torch.float32
    torch.testing.assert_close(single.value.double(), first.value, rtol=1e-3, atol=1e-3)


@each_backbone
def test_layers_are_what_the_pass_goes_through(name: str):
    built = network(name)
    params = moved(built.init(KEY))
    seen: dict[str, int] = {}

    def hook(layer: str, outputs: Tensor) -> Tensor:
        assert len(outputs) == 5
        seen[layer] = outputs.shape[1]
        return outputs

    output = built.forward(params, X, norm_of(built), layer_hook=hook)
    assert seen == {layer.name: layer.outputs for layer in built.layers}
    assert set(output.activations) == set(seen)
    for layer in built.layers:
        assert all(p in params for p in layer.parameters)
        assert len(layer.parameters) == 1 + layer.bias
    # Some that are named need not be there: an option leaves them out.
    assert bool(built.norm_parameters & set(params)) == bool(built.norm_parameters)


@each_backbone
def test_features_are_what_enters_the_head(name: str):
    built = network(name)
    params = moved(built.init(KEY))
    whole = built.forward(params, X, norm_of(built))
    head = built.layers[-1]
    body = {n: p for n, p in params.items() if n not in head.parameters}
    features = built.forward(body, X, norm_of(built), head=False).value
    assert torch.equal(features, whole.features)
    weight, *bias = (params[p] for p in head.parameters)
    logits = torch.nn.functional.linear(features, weight, *bias)
    torch.testing.assert_close(logits, whole.value, rtol=EXACT, atol=EXACT)


# --- with every learner -----------------------------------------------------------------------


def tasks() -> TaskBatch:
    tensors = {"slot": torch.arange(TASKS)}
    for name, copies in (("support", SHOTS), ("query", SHOTS + 1)):
        size = WAYS * copies
        tensors[f"{name}_x"] = KEY.fold(name).normal((TASKS, size, *IMAGES.inputs), torch.float64)
        tensors[f"{name}_y"] = (torch.arange(size) % WAYS).repeat(TASKS, 1)
    tensors["class_ids"] = torch.arange(WAYS).repeat(TASKS, 1)
    return TaskBatch(tuple(range(TASKS)), tensors)


def learner_of(algorithm: str, name: str) -> tuple[Learner, Recipe]:
    norm = "running" if network(name).norm_layers else "none"
    recipe = Recipe.model_validate(
        {
            "data": {"dataset": "none", "ways": WAYS},
            "model": {"name": name, "norm": norm, **SMALL.get(name, {})},
            "algorithm": {"name": algorithm},
            "inner": {"lr": 0.05, "steps": 1},
            "outer": {"batch": TASKS, "steps": 10},
        }
    )
    return build(recipe, IMAGES), recipe


class Run:
    """A learner on a network, in training."""

    def __init__(self, algorithm: str, name: str) -> None:
        self.learner, recipe = learner_of(algorithm, name)
        self.params = moved(self.learner.init(KEY))
        ctx = context(recipe, "train", 0)
        self.ctx = replace(ctx, state=self.learner.initial_state(ctx))
        self.noise = [self.learner.noise(KEY.fold(i), self.ctx) for i in range(TASKS)]
        if names := self.learner.step_scalar_names:
            table = Loop().step_scalars(self.learner, self.params, tasks(), self.noise, self.ctx)
            scalars = dict(zip(names, table, strict=True))
            self.ctx = replace(self.ctx, step_scalars=scalars)

    def chunk(self, how: Loop | Vmap, params: Params | None = None) -> ChunkResult:
        given = params or self.params
        found = how.chunk(self.learner, given, tasks(), self.noise, self.ctx)
        assert bool(found.finite.all())
        return found


OWN_KIND = [name for name in NAMES if name not in ("conv4", "mlp")]


# A large network takes long: the slow tier has every learner on it, here and in test_gradients.
@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        pytest.param(name, algorithm, marks=[pytest.mark.slow] if large else [])
        for name in OWN_KIND
        for algorithm in algorithms.names()
        if "labels" in algorithms.targets(algorithm)
        for large in [name == "resnet12" and algorithm not in ("maml", "tnet")]
    ],
)
def test_every_learner_takes_it_one_by_one_and_together(algorithm: str, name: str):
    run = Run(algorithm, name)
    if run.learner.estimator == "none":
        return
    looped, together = run.chunk(Loop()), run.chunk(Vmap(TASKS))
    assert distance(together.gradients, looped.gradients) <= EXACT
    assert set(together.statistics) == set(looped.statistics)
    if looped.statistics:
        assert distance(together.statistics, looped.statistics) <= EXACT


@each_backbone
def test_the_gradient_of_maml_is_that_of_central_differences(name: str):
    run = Run("maml", name)
    gradients = run.chunk(Loop()).gradients
    size = float(torch.cat([g.reshape(-1) for g in gradients.values()]).norm())

    def loss(along: Params, step: float) -> float:
        shifted = {n: p + step * along[n] for n, p in run.params.items()}
        return float(run.chunk(Loop(), shifted).metrics["loss"].sum())

    kinks = 0
    for number in range(5):
        along = {
            n: KEY.fold(n, number).normal(p.shape, torch.float64) for n, p in gradients.items()
        }
        length = float(torch.cat([a.reshape(-1) for a in along.values()]).norm())
        along = {n: a / length for n, a in along.items()}
        wanted = sum(float((gradients[n] * a).sum()) for n, a in along.items())
        got = (loss(along, STEP) - loss(along, -STEP)) / (2 * STEP)
        kinks += abs(got - wanted) > DIFFERENCES * size
    # A step across a kink of ReLU or of a maximum shows another slope.
    assert kinks <= 2
