"""Passes through a network: without its head, with a hook at each layer, and around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metadist import backbones
from metadist.backbones import Backbone, Norm
from metadist.inner.backbone_wrapper import Encoder
from metadist.keys import Key
from metadist.tasks import Params
from tests.contract.cases import MODELS, Model

NORM = Norm("off")
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))


def made(model: Model, ways: int | None = None) -> tuple[Backbone, Params, Tensor]:
    """A network, its parameters and inputs."""
    shape = model.shape if ways is None else replace(model.shape, outputs=ways)
    network = backbones.build(model.name, dict(model.options), shape)
    key = Key.of("forward", model.name)
    params = {
        n: p.double() + 0.1 * key.fold(n).normal(p.shape, torch.float64)
        for n, p in network.init(key).items()
    }
    return network, params, key.fold("x").normal((4, *model.inputs), torch.float64)


def check_headless(model: Model) -> None:
    """The features are what the head turns into outputs, and the head need not be there."""
    network, params, x = made(model)
    whole = network.forward(params, x, NORM)
    last = network.layers[-1].parameters
    body = {n: p for n, p in params.items() if n not in last}
    headless = network.forward(body, x, NORM, head=False)
    assert torch.equal(headless.value, whole.features)
    assert torch.equal(headless.features, whole.features)
    outputs = F.linear(whole.features, *(params[name] for name in last))
    torch.testing.assert_close(whole.value, outputs, rtol=1e-12, atol=1e-12)
    names = [layer.name for layer in network.layers]
    assert list(whole.activations) == names
    assert list(headless.activations) == names[:-1]
    for name, activation in headless.activations.items():
        assert torch.equal(activation, whole.activations[name])


@each_model
def test_a_pass_without_the_head_gives_the_features(model: Model):
    check_headless(model)


def other_features(network: type[Backbone], patch: pytest.MonkeyPatch) -> None:
    right = network.forward

    def wrong(self: Any, *given: Any, **how: Any) -> Any:
        found = right(self, *given, **how)
        return replace(found, features=found.features + 1)

    patch.setattr(network, "forward", wrong)


@each_model
def test_other_features_are_noticed(model: Model, monkeypatch: pytest.MonkeyPatch):
    other_features(type(made(model)[0]), monkeypatch)
    with pytest.raises(AssertionError):
        check_headless(model)


@each_model
def test_a_hook_is_given_each_layer_and_what_it_returns_counts(model: Model):
    network, params, x = made(model)
    plain = network.forward(params, x, NORM)
    for head in (True, False):
        seen: dict[str, int] = {}

        def watch(name: str, y: Tensor, seen: dict[str, int] = seen) -> Tensor:
            seen[name] = y.shape[1]
            return y

        watched = network.forward(params, x, NORM, head=head, layer_hook=watch)
        layers = network.layers if head else network.layers[:-1]
        assert seen == {layer.name: layer.outputs for layer in layers}
        assert torch.equal(watched.value, plain.value if head else plain.features)
    for layer in network.layers:

        def shift(name: str, y: Tensor, only: str = layer.name) -> Tensor:
            return y + 0.7 if name == only else y

        moved = network.forward(params, x, NORM, layer_hook=shift)
        assert not torch.allclose(moved.value, plain.value)
    last = network.layers[-1].name

    def at_the_head(name: str, y: Tensor) -> Tensor:
        return y + 0.7 if name == last else y

    moved = network.forward(params, x, NORM, layer_hook=at_the_head)
    torch.testing.assert_close(moved.value, plain.value + 0.7, rtol=1e-12, atol=1e-12)


@each_model
def test_a_hook_stands_before_the_nonlinearity(model: Model):
    """What is moved far below zero is cut off, or saturates."""
    if model.name not in ("mlp", "conv4"):
        return  # A module's layers are seen as they are, whatever it does with them.
    network, params, x = made(model)
    first = network.layers[0].name

    def hook(by: float) -> Callable[[str, Tensor], Tensor]:
        return lambda name, y: y - by if name == first else y

    low, lower = (
        network.forward(params, x, NORM, layer_hook=hook(by)).activations[first]
        for by in (1e3, 2e3)
    )
    assert torch.equal(low, lower)


@each_model
def test_an_encoder_has_nothing_of_the_size_of_the_ways(model: Model):
    found = []
    for ways in (3, 7):
        network, params, x = made(model, ways)
        encoder = Encoder(network)
        own = encoder.init(Key.of("forward", model.name))
        head = set(network.layers[-1].parameters)
        assert set(own) == set(params) - head
        assert encoder.layers == network.layers[:-1]
        value = encoder.forward({n: params[n] for n in own}, x, NORM).value
        assert torch.equal(value, network.forward(params, x, NORM).features)
        found.append(own)
    assert all(torch.equal(p, found[1][n]) for n, p in found[0].items())


def test_a_network_knows_no_gradient_unless_it_says_so():
    network, params, _ = made(MODELS["mlp-tanh"])
    given: Any = (params, tuple(params), None, NORM, None, 1.0)
    assert network.loss_gradient(*given) is None
