"""Modules as backbones: MAML with them is that of the plain module in a loop written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from module_networks import (
    IMAGE,
    MODULES,
    ONE_BY_ONE,
    OUTPUTS,
    Masked,
    Recurrent,
    Shared,
    Tied,
    network_of,
    residual,
)
from torch import Tensor, nn
from torch.func import functional_call

from data_pipeline.episodes.types import EpisodeBatch
from metadist.algorithms.tnet import Transformed
from metadist.backbones import Backbone, Norm, resnet12
from metadist.compute.collectives import Group, Solo
from metadist.compute.learners import initial_params
from metadist.compute.strategies import ChunkResult, Loop, Vmap
from metadist.context import Context, NormMode
from metadist.errors import RecipeError
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.sgd import SGD
from metadist.keys import Key
from metadist.objectives.classification import Classification
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, TaskBatch, TaskShape
from metadist.training.trainer import Trainer
from tests.numerics.conftest import RunGroup
from tests.numerics.reference import EXACT, Net, cross_entropy, derivative, distance, leaves, total

TASKS, STEPS, LR = 3, 2, 0.1
KEY = Key.of("modules")
each_module = pytest.mark.parametrize("make", MODULES, ids=lambda make: make.__name__)


def tasks(shape: tuple[int, ...] = IMAGE) -> TaskBatch:
    sizes = {"support": 2 * OUTPUTS, "query": 3 * OUTPUTS}
    tensors = {}
    for name, size in sizes.items():
        tensors[f"{name}_x"] = KEY.fold(name).normal((TASKS, size, *shape), torch.float64)
        tensors[f"{name}_y"] = (torch.arange(size) % OUTPUTS).repeat(TASKS, 1)
    return TaskBatch(tuple(range(TASKS)), tensors)


def learner_of(network: Backbone, *, adapt_norm: bool = True) -> InnerLoop:
    return InnerLoop(
        backbone=network,
        objective=Classification(),
        ways=OUTPUTS,
        optimizer=SGD(),
        adapt_norm=adapt_norm,
    )


def parameters(network: Backbone) -> Params:
    """Fresh ones, with a little added to those that begin as 0 or 1."""
    fresh = network.init(KEY)
    added = {n: 0.1 * KEY.fold(n).normal(p.shape, torch.float64) for n, p in fresh.items()}
    return {name: p.double() + added[name] for name, p in fresh.items()}


def context(learner: InnerLoop, norm: NormMode) -> Context:
    ctx = Context("train", 0, 10, STEPS, STEPS, norm, LR)
    return replace(ctx, state=learner.initial_state(ctx))


def chunk(
    network: Backbone, strategy: Loop | Vmap, norm: NormMode = "transductive", **how: Any
) -> ChunkResult:
    learner = learner_of(network, **how)
    shape = how.get("inputs", IMAGE)
    found = strategy.chunk(
        learner, parameters(network), tasks(shape), [{}] * TASKS, context(learner, norm)
    )
    assert bool(found.finite.all())
    return found


def naive(
    module: nn.Module, theta: Mapping[str, Tensor], fixed: frozenset[str] = frozenset()
) -> tuple[Tensor, Params]:
    """Losses of the tasks and the summed meta-gradient: the plain module in training mode.

    Args:
        fixed: parameters that the inner loop leaves alone.
    """
    losses, gradients = [], []
    batch = tasks().tensors
    for index in range(TASKS):
        support_x, support_y, query_x, query_y = (
            batch[name][index] for name in ("support_x", "support_y", "query_x", "query_y")
        )
        start = leaves(theta)
        phi = dict(start)
        for _ in range(STEPS):
            names = [name for name in phi if name not in fixed]
            value = cross_entropy(functional_call(module, phi, (support_x,)), support_y)
            parts = torch.autograd.grad(
                value, [phi[n] for n in names], create_graph=True, materialize_grads=True
            )
            phi |= {n: phi[n] - LR * g for n, g in zip(names, parts, strict=True)}
        value = cross_entropy(functional_call(module, phi, (query_x,)), query_y)
        losses.append(value.detach())
        gradients.append(derivative(value, start))
    return torch.stack(losses), total(gradients)


def plain(make: Callable[[], nn.Module]) -> nn.Module:
    """The module itself; what it holds beside parameters and batch norm's buffers is as made."""
    return KEY.module(make).double().train()


@pytest.fixture(autouse=True)
def _second_derivatives_of_attention():
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


@each_module
def test_the_gradient_is_that_of_the_plain_module(make: Callable[[], nn.Module]):
    network = network_of(make, constants=MODULES[make])
    losses, gradients = naive(plain(make), parameters(network))
    norm: NormMode = "transductive"
    looped = chunk(network, Loop(), norm)
    torch.testing.assert_close(looped.metrics["loss"], losses, rtol=EXACT, atol=EXACT)
    assert distance(looped.gradients, gradients) <= EXACT
    if make in ONE_BY_ONE:
        with pytest.raises(RecipeError, match=r"several tasks at once.*engine.mode = 'loop'"):
            chunk(network, Vmap(TASKS), norm)
        return
    for size in (TASKS, TASKS + 2):
        together = chunk(network, Vmap(size), norm)
        assert distance(together.gradients, gradients) <= EXACT


@pytest.mark.parametrize("strategy", [Loop(), Vmap(TASKS)], ids=["loop", "vmap"])
def test_normalisation_is_left_alone_unless_it_is_asked_for(strategy: Loop | Vmap):
    network = network_of(residual)
    fixed = frozenset(n for n in network.init(KEY) if ".bn" in n or "downsample.1" in n)
    assert fixed == network.norm_parameters
    _, gradients = naive(plain(residual), parameters(network), fixed)
    found = chunk(network, strategy, adapt_norm=False)
    assert distance(found.gradients, gradients) <= EXACT


@each_module
@pytest.mark.parametrize("norm", ["support", "running", "none"])
def test_loop_and_vmap_agree_in_every_mode(make: Callable[[], nn.Module], norm: NormMode):
    network = network_of(make, constants=MODULES[make])
    if not network.norm_layers or make in ONE_BY_ONE:
        return
    looped, together = (chunk(network, how, norm) for how in (Loop(), Vmap(TASKS)))
    assert distance(together.gradients, looped.gradients) <= EXACT
    assert set(looped.statistics) == set(together.statistics)
    if norm == "running":
        assert set(looped.statistics) == {
            f"{place}.{what}" for place in network.norm_layers for what in ("mean", "square")
        }
        assert distance(together.statistics, looped.statistics) <= EXACT


def test_running_statistics_are_those_of_the_passes():
    network = network_of(residual)
    learner = learner_of(network)
    params, ctx = parameters(network), context(learner_of(network), "running")
    module = plain(residual)
    module.load_state_dict(params, strict=False)
    seen: list[Tensor] = []
    first = module.get_submodule("1.bn1")
    first.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    x = tasks().tensors["support_x"][0]
    module(x)
    sums = learner.loss(params, tasks().task(0), ctx).statistics
    wanted = seen[0].mean((0, 2, 3))
    torch.testing.assert_close(sums["1.bn1.mean"][0], wanted, rtol=EXACT, atol=EXACT)
    # In evaluation the averages are what is used.
    state = {
        f"{place}.{what}": torch.full((STEPS + 1, size), 2.0, dtype=torch.float64)
        for place, size in network.norm_layers.items()
        for what in ("mean", "variance")
    }
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.full_like(part.weight, 2.0)
            part.running_var = torch.full_like(part.weight, 2.0)
    test = replace(ctx, phase="test", state=state, inner_steps=0)
    (fitted,) = learner.adapt(params, tasks().task(0), test)
    got = learner.predict(fitted, tasks().task(0).query, test).mean
    wanted = module.eval()(tasks().task(0).query.x)
    torch.testing.assert_close(got, wanted, rtol=EXACT, atol=EXACT)


def test_a_t_net_refuses_layers_whose_channels_it_cannot_see():
    network = Transformed(network_of(Masked, constants=MODULES[Masked]))
    with pytest.raises(RecipeError, match=r"layer 'body.layers.0.linear1' puts out \(6, 8, 8\)"):
        chunk(network, Loop())


# --- workers ----------------------------------------------------------------------------------


def episodes(first: int, count: int) -> EpisodeBatch:
    arrays: dict[str, Any] = {}
    for name, size in (("support", OUTPUTS), ("query", 2 * OUTPUTS)):
        drawn = [KEY.fold(name, first + i).normal((size, *IMAGE)).numpy() for i in range(count)]
        arrays[f"{name}_x"] = np.stack(drawn)
        arrays[f"{name}_y"] = np.tile(np.arange(size) % OUTPUTS, (count, 1))
    return EpisodeBatch(np.arange(first, first + count), arrays)


def trained(make: Callable[[], nn.Module], recipe: Recipe, group: Group) -> dict[str, Tensor]:
    """State after two steps of five tasks; each worker makes a network of its own."""
    learner = learner_of(network_of(make, constants=MODULES[make]))
    worker = Trainer(recipe, learner, group, torch.device("cpu"))
    for step in range(2):
        start, stop = worker.share
        mine = episodes(5 * step + start, stop - start) if stop > start else None
        worker.step(mine, list(range(5 * step, 5 * step + 5)))
    return worker.state().tensors()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "mode", "norm"),
    [
        (Shared, "loop", "running"),
        (residual, "vmap", "running"),
        (residual, "loop", "transductive"),
        (Tied, "vmap", "none"),
        (Masked, "loop", "none"),
        (Recurrent, "loop", "none"),
    ],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_one_worker_and_three_give_the_same_bits(
    make: Callable[[], nn.Module], mode: str, norm: str, run_group: RunGroup
):
    recipe = Recipe.model_validate(
        {
            "data": {"dataset": "none", "ways": OUTPUTS},
            "model": {"name": "none", "norm": norm},
            "algorithm": {"name": "maml"},
            "inner": {"lr": 0.1, "steps": 2},
            "outer": {"batch": 5, "lr": 0.01},
            "engine": {"mode": mode, "chunk": 2},
        }
    )
    alone = trained(make, recipe, Solo())
    assert all(bool(t.isfinite().all()) for t in alone.values())
    fresh = initial_params(recipe, learner_of(network_of(make, constants=MODULES[make])))
    assert all(not torch.equal(alone[f"params/{n}"], p) for n, p in fresh.items() if p.dim() > 1)
    for other in run_group(3, lambda group: trained(make, recipe, group)):
        assert set(other) == set(alone)
        assert all(torch.equal(t, alone[name]) for name, t in other.items())


# --- ResNet-12 --------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["mean", "flatten"])
def test_resnet12_is_the_network_of_its_description(head: str):
    shape = TaskShape((3, 34, 32), OUTPUTS, ways=OUTPUTS)
    options = resnet12.Options.model_validate({"filters": 4, "head": head})
    network = resnet12.build(options, shape)
    assert [one.outputs for one in network.layers[::4]] == [4, 10, 20, 40, OUTPUTS]
    params = parameters(network)
    x = KEY.normal((4, 3, 34, 32), torch.float64)
    got = network.forward(params, x, Norm("batch", record=True))
    written = Net("resnet12", flatten=head == "flatten", epsilon=1e-5)
    wanted, moments = written(params, x, "batch")
    torch.testing.assert_close(got.value, wanted, rtol=EXACT, atol=EXACT)
    assert set(got.statistics) == set(moments) == set(network.norm_layers)
    for name, (mean, variance) in moments.items():
        torch.testing.assert_close(got.statistics[name], (mean, variance), rtol=EXACT, atol=EXACT)
    assert got.features.shape == (4, 40 * (4 if head == "flatten" else 1))


def test_resnet12_has_the_published_number_of_parameters():
    for growth, millions in (("wide", 12.424320), ("narrow", 7.996800)):
        with torch.device("meta"):  # twelve million numbers take their time
            made = resnet12.ResNet12((3, 84, 84), 5, growth=growth)  # type: ignore[arg-type]
        named = made.named_parameters()
        count = sum(p.numel() for name, p in named if not name.startswith("head"))
        assert count == round(millions * 1e6)


def test_resnet12_begins_with_kaimings_normal_by_what_goes_out():
    options = resnet12.Options.model_validate({"growth": "narrow", "filters": 16})
    params = resnet12.build(options, TaskShape((3, 32, 32), 5, ways=5)).init(KEY)
    spread = float(params["blocks.3.conv2.weight"].std())
    assert spread == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("inputs", [(3, 15, 84), (5,)])
def test_resnet12_needs_images(inputs: tuple[int, ...]):
    with pytest.raises(RecipeError, match=r"images \[C, H, W\] of 16x16 or more"):
        resnet12.build(resnet12.Options(), TaskShape(inputs, 5, ways=5))
