"""Modules of one's own as backbones: what they are, what is taken, and what is refused by name."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
import torch
from module_networks import IMAGE, OUTPUTS, SHAPE, Sequence, Tied, network_of
from torch import Tensor, nn

import metadist
from metadist.backbones import Norm, Output
from metadist.backbones._module import ModuleNetwork
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import Params, TaskShape

KEY = Key.of("from_module")
X = KEY.normal((4, *IMAGE))


def forward(network: ModuleNetwork, params: Params, **more: Any) -> Output:
    return network.forward(params, X, Norm("batch", record=True), **more)


def convolutions(width: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(IMAGE[0], width, 3),
        nn.BatchNorm2d(width, eps=0.3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, OUTPUTS),
    )


# --- what it is -------------------------------------------------------------------------------


def test_options_are_the_arguments_of_the_factory():
    def make(
        inputs: Any,
        outputs: int,
        width: int = 4,
        *,
        slope: float = 0,
        kind: Literal["a", "b"] = "a",
        deep: bool = False,
    ) -> nn.Module:
        assert inputs == IMAGE
        assert outputs == OUTPUTS
        return convolutions(width)

    options, build = metadist.from_module(make)
    defaults = options().model_dump()
    assert defaults == {"width": 4, "slope": 0.0, "kind": "a", "deep": False}
    assert isinstance(defaults["slope"], float)
    network = build(options.model_validate({"width": 5}), SHAPE)
    assert network.layers[0].outputs == 5
    for wrong in ({"width": "x"}, {"kind": "c"}, {"height": 1}):
        with pytest.raises(ValueError):
            options.model_validate(wrong)


def test_layers_names_and_features_are_those_of_the_module():
    network = network_of(convolutions)
    assert [(one.name, one.outputs, one.bias) for one in network.layers] == [
        ("0", 3, True),
        ("5", OUTPUTS, True),
    ]
    assert network.layers[-1].parameters == ("5.weight", "5.bias")
    assert network.norm_layers == {"1": 3}
    assert network.norm_parameters == {"1.weight", "1.bias"}
    params = network.init(KEY)
    assert list(params) == [name for name, _ in convolutions().named_parameters()]
    output = forward(network, params)
    assert set(output.activations) == {"0", "5"}
    assert torch.equal(output.activations["5"], output.value)
    wanted = output.features @ params["5.weight"].T + params["5.bias"]
    torch.testing.assert_close(output.value, wanted)
    assert output.statistics["1"][0].shape == (3,)
    assert forward(network, params).statistics.keys() == {"1"}
    assert network.forward(params, X, Norm("batch")).statistics == {}


def test_without_the_head_its_parameters_need_not_be_there():
    network = network_of(convolutions)
    params = network.init(KEY)
    body = {name: p for name, p in params.items() if name not in network.layers[-1].parameters}
    with_head, without = forward(network, params), forward(network, body, head=False)
    assert torch.equal(without.value, with_head.features)
    assert torch.equal(without.features, with_head.features)
    # And it is a network like before.
    assert torch.equal(forward(network, params).value, with_head.value)
    # A parameter that was forgotten is no parameter of the module's own.
    with pytest.raises(RecipeError, match="network convolutions: a pass over 4 examples"):
        forward(network, body)


def test_a_hook_changes_what_each_layer_puts_out():
    network = network_of(convolutions)
    params = network.init(KEY)
    seen = []

    def hook(name: str, outputs: Tensor) -> Tensor:
        seen.append((name, outputs.shape[1]))
        return 2 * outputs

    changed = forward(network, params, layer_hook=hook)
    assert seen == [("0", 3), ("5", OUTPUTS)]
    doubled = {
        n: 2 * p if n in ("0.weight", "0.bias", "5.weight", "5.bias") else p
        for n, p in params.items()
    }
    torch.testing.assert_close(changed.value, forward(network, doubled).value)
    assert not torch.equal(changed.value, forward(network, params).value)


def test_fresh_parameters_are_those_that_the_module_draws_under_the_key():
    def make(width: int = 3) -> nn.Module:
        made = convolutions(width)
        nn.init.orthogonal_(made[5].get_parameter("weight"))
        return made

    network, again = network_of(make), network_of(make)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    params = network.init(KEY)
    assert torch.equal(torch.get_rng_state(), before)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    torch.manual_seed(4)
    other = again.init(KEY)
    torch.set_num_threads(threads)
    wanted = dict(KEY.module(make).named_parameters())
    for name, p in params.items():
        assert p.dtype == torch.float32
        assert not p.requires_grad
        assert torch.equal(p, wanted[name])
        assert torch.equal(p, other[name])
    assert not torch.equal(params["0.weight"], network.init(KEY.fold("else"))["0.weight"])


# --- normalisation ----------------------------------------------------------------------------


def test_normalisation_in_training_is_that_of_the_module():
    network = network_of(convolutions)
    params = network.init(KEY)
    params["1.weight"] = params["1.weight"] + 0.5
    module = convolutions()
    module.load_state_dict(params, strict=False)
    output = forward(network, params)
    torch.testing.assert_close(output.value, module(X))
    # And with given statistics that of the module in evaluation.
    mean, variance = output.statistics["1"]
    module[1].running_mean, module[1].running_var = mean.detach(), variance.detach()
    module.eval()
    given = network.forward(params, 2 * X, Norm("given", statistics=output.statistics))
    torch.testing.assert_close(given.value, module(2 * X))
    # Off: scale and shift alone.
    module[1].running_mean, module[1].running_var = torch.zeros(3), torch.ones(3) - 0.3
    torch.testing.assert_close(network.forward(params, X, Norm("off")).value, module(X))


class Odd(nn.Module):
    """Batch normalisation before the first layer, twice by one module, and behind the head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(IMAGE[0], affine=False)
        self.conv = nn.Conv2d(IMAGE[0], IMAGE[0], 3, padding=1)
        self.order = [self.first, self.conv]
        self.head = nn.Linear(IMAGE[0], OUTPUTS)
        self.last = nn.SyncBatchNorm(OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.order[1](self.order[0](x)))
        out: Tensor = self.last(self.head(x.mean((2, 3))))
        return out


def test_each_place_of_a_shared_layer_has_statistics_of_its_own():
    network = network_of(Odd)
    assert network.norm_layers == {"first": 2, "first@2": 2, "last": OUTPUTS}
    assert network.norm_parameters == {"last.weight", "last.bias"}
    params = network.init(KEY)
    output = forward(network, params)
    given = network.forward(params, X, Norm("given", statistics=output.statistics))
    torch.testing.assert_close(given.value, output.value)
    with pytest.raises(RecipeError, match="'first' has no statistics"):
        network.forward(params, X, Norm("given"))


# --- what is taken ----------------------------------------------------------------------------


def test_tied_weights_are_one_parameter_in_both_places():
    network = network_of(Tied)
    params = network.init(KEY)
    assert "two.weight" not in params
    assert network.layers[1].parameters == ("one.weight", "two.bias")
    changed = {**params, "one.weight": params["one.weight"] + 0.1}
    module = Tied()
    module.load_state_dict(changed, strict=False)
    torch.testing.assert_close(forward(network, changed).value, module(X))


class Constant(nn.Module):
    """A mask that never changes, and a place in the file for a count."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.register_buffer("mask", torch.linspace(0, 1, 2 * 64))
        self.register_buffer("order", torch.arange(2 * 64).flip(0))
        self.head = nn.Linear(2 * 64, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.flat(x)[:, self.order] * self.mask)
        return out


def test_constants_follow_the_type_of_the_examples():
    network = network_of(Constant, constants=("mask", "order"))
    params = network.init(KEY)
    module = Constant()
    module.load_state_dict({**module.state_dict(), **params})
    double = {name: p.double() for name, p in params.items()}
    got = network.forward(double, X.double(), Norm("batch")).value
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, module.double()(X.double()))


def test_lazy_layers_get_their_sizes_from_the_examples():
    network = network_of(
        lambda: nn.Sequential(
            nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(OUTPUTS)
        )
    )
    assert network.init(KEY)["0.weight"].shape == (3, 2, 3, 3)
    assert network.norm_layers == {"1": 3}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sequence(nn.LSTM(2, 4, batch_first=True)),
        lambda: Sequence(nn.GRU(2, 4, batch_first=True)),
        lambda: Sequence(nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Dropout(0.0))),
        lambda: Sequence(
            nn.Sequential(
                nn.Linear(2, 4),
                nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
            )
        ),
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.LazyLinear(OUTPUTS)
        ),
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.InstanceNorm2d(4, affine=True),
            nn.Flatten(),
            nn.LazyLinear(OUTPUTS),
        ),
    ],
    ids=["lstm", "gru", "layer_norm", "transformer", "group_norm", "instance_norm"],
)
def test_other_modules_compute_with_the_parameters_that_are_given(make: Callable[[], nn.Module]):
    network = network_of(make)
    params = {n: p + 0.1 * KEY.fold(n).normal(p.shape) for n, p in network.init(KEY).items()}
    module = KEY.module(make)
    module(X)
    module.load_state_dict(params, strict=False)
    torch.testing.assert_close(forward(network, params).value, module(X), rtol=1e-5, atol=1e-5)


def test_a_named_head_is_the_last_layer():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat, self.head = nn.Flatten(), nn.Linear(128, OUTPUTS)
            self.after = nn.Linear(OUTPUTS, OUTPUTS)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.after(self.head(self.flat(x)))
            return out

    assert [one.name for one in network_of(Two).layers] == ["head", "after"]
    network = network_of(Two, head="head")
    assert [one.name for one in network.layers] == ["after", "head"]
    assert forward(network, network.init(KEY)).features.shape == (4, 128)


def test_a_linear_layer_alone_is_a_network_and_its_head_is_adapted():
    shape = TaskShape((7,), OUTPUTS, ways=OUTPUTS)
    network = network_of(lambda: nn.Linear(7, OUTPUTS), shape)
    (layer,) = network.layers
    assert (layer.parameters, layer.outputs, layer.bias) == (("weight", "bias"), OUTPUTS, True)
    params, x = network.init(KEY), KEY.normal((4, 7))
    output = network.forward(params, x, Norm("batch"))
    torch.testing.assert_close(output.value, x @ params["weight"].T + params["bias"])
    assert torch.equal(output.features, x)
    assert torch.equal(network.forward({}, x, Norm("batch"), head=False).value, x)


# --- passes -----------------------------------------------------------------------------------


def test_passes_of_one_network_in_threads_do_not_meet():
    gate = threading.Barrier(2, timeout=0.2)

    class Meeting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(128, OUTPUTS)

        def forward(self, x: Tensor) -> Tensor:
            if threading.current_thread() is not threading.main_thread():
                # Where both could be inside, both are.
                with contextlib.suppress(threading.BrokenBarrierError):
                    gate.wait()
            out: Tensor = self.head(x.flatten(1))
            return out

    network = network_of(Meeting)
    both = [network.init(KEY.fold(n)) for n in range(2)]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda params: forward(network, params), both))
    for params, output in zip(both, got, strict=True):
        assert torch.equal(output.value, forward(network, params).value)
        assert torch.equal(output.features, X.flatten(1))


def test_a_network_can_be_copied():
    network = network_of(convolutions)
    params = network.init(KEY)
    assert torch.equal(
        forward(copy.deepcopy(network), params).value, forward(network, params).value
    )


def test_an_error_in_a_pass_names_the_network_and_the_cure():
    class Few(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(128, OUTPUTS)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(x.flatten(1))
            if len(x) > 3:
                raise KeyError("few")
            return out

    network = network_of(Few)
    with pytest.raises(RecipeError, match=r"network Few: a pass over 4 .*\(2, 8, 8\).*KeyError"):
        forward(network, network.init(KEY))

    network = network_of(
        lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(128), nn.Linear(128, OUTPUTS))
    )
    for norm in (Norm("batch"), Norm("batch", record=True)):
        with pytest.raises(RecipeError, match=r"network .*'1' has one value .*model.norm"):
            network.forward(network.init(KEY), X[:1], norm)
    assert network.forward(network.init(KEY), X[:1], Norm("off")).value.shape == (1, OUTPUTS)
