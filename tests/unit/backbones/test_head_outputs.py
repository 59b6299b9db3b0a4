"""A head of more outputs than a task has classes: the task has the first of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from metadist import backbones
from metadist.backbones import Norm
from metadist.compute.learners import build, initial_params, with_ways
from metadist.compute.resolve import resolve
from metadist.errors import RecipeError, RunError
from metadist.inner.inner_loop import InnerLoop
from metadist.keys import Key
from metadist.recipe.schema import load_recipe
from metadist.tasks import TaskShape

SHAPE = TaskShape((1, 28, 28), 7, 7)
SETTINGS = ("model.filters=4", "model.head_init=normal", "engine.kernels=torch")


def test_outputs_are_the_first_ones():
    options = {"filters": 4, "head_outputs": 7}
    seven = backbones.build("conv4", options, SHAPE)
    three = backbones.build("conv4", options, replace(SHAPE, outputs=3, ways=3))
    params = seven.init(Key.of("net"))
    assert {n: p.shape for n, p in three.init(Key.of("net")).items()} == {
        n: p.shape for n, p in params.items()
    }
    x, norm = torch.rand(5, 1, 28, 28), Norm("batch")
    one, other = (net.forward(params, x, norm) for net in (seven, three))
    assert one.value.shape == (5, 7)
    assert torch.equal(other.value, one.value[:, :3])
    assert torch.equal(other.activations["head"], other.value)
    assert three.layers[-1].outputs == 7


def test_an_unused_option_changes_nothing():
    plain, said = (
        backbones.build("conv4", {"filters": 4, **more}, SHAPE)
        for more in ({}, {"head_outputs": 7})
    )
    for name, value in plain.init(Key.of("net")).items():
        assert torch.equal(value, said.init(Key.of("net"))[name])


def test_maml_is_trained_with_more_ways_than_it_is_tested_with():
    recipe = resolve(load_recipe("omniglot-5w1s-cactus-maml", ("data.partition=", *SETTINGS)))
    shape = replace(SHAPE, outputs=20, ways=20)
    params = initial_params(recipe, build(recipe, shape))
    learner = with_ways(recipe, shape, params, 5)
    assert params["head.weight"].shape == (20, 4)
    assert isinstance(learner, InnerLoop)
    network = learner.backbone
    x, y = torch.rand(5, 1, 28, 28), torch.arange(5)
    needed = {n: p.requires_grad_() for n, p in params.items()}
    loss = F.cross_entropy(network.forward(needed, x, Norm("batch")).value, y)
    gradient = torch.autograd.grad(loss, needed["head.weight"])[0]
    # What is learned in a task of five classes are the first five rows.
    assert gradient[:5].abs().min() > 0
    assert not gradient[5:].any()
    plain = resolve(
        load_recipe(
            "omniglot-5w1s-cactus-maml", ("data.partition=", "model.head_outputs=0", *SETTINGS)
        )
    )
    with pytest.raises(RunError, match="cannot tell 5: head"):
        with_ways(plain, shape, initial_params(plain, build(plain, shape)), 5)
    with pytest.raises(RecipeError, match="at least 21"):
        with_ways(recipe, shape, params, 21)


def test_fewer_outputs_than_classes_are_refused():
    with pytest.raises(RecipeError, match=r"model\.head_outputs: 0, or at least 7"):
        backbones.build("conv4", {"head_outputs": 6}, SHAPE)
