"""Whole networks by kernels: loss, gradients, second derivative and statistics are the tape's."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from metadist.backbones import Norm
from metadist.kernels.library import Library
from metadist.objectives.classification import Classification
from metadist.tasks import Examples, Prediction, TaskShape
from tests.kernels.networks import SCALE, Pair, check, gradient, whole
from tests.numerics.reference import EXACT, distance

POOLED = {"downsample": "pool", "head": "flatten"}


def images(channels: int, size: int, ways: int = 5) -> TaskShape:
    return TaskShape((channels, size, size), ways, ways)


VALUES = TaskShape((1,), 1)
#: Network, options, tasks, examples: of each kind a few.
SOME: dict[str, tuple[str, dict[str, Any], TaskShape, int]] = {
    "stride": ("conv4", {"filters": 8, "affine": "scale_shift"}, images(1, 28), 5),
    "stride-odd": ("conv4", {"filters": 5, "affine": "none"}, images(3, 33), 6),
    "stride-flat": ("conv4", {"filters": 12, "head": "flatten"}, images(1, 33, 2), 6),
    "pool": ("conv4", {**POOLED, "filters": 8}, images(3, 28), 5),
    "pool-odd": ("conv4", {**POOLED, "filters": 5, "affine": "scale_shift"}, images(1, 33), 5),
    "values": ("conv4", {"filters": 4}, TaskShape((1, 16, 16), 3), 4),
    "relu": ("mlp", {}, VALUES, 10),
    "tanh": ("mlp", {"activation": "tanh", "layers": 3, "hidden": 33}, VALUES, 7),
    "wide": ("mlp", {"hidden": 20, "layers": 1}, images(1, 28), 8),
}
ALL = {
    "-".join(map(str, case)): (
        "conv4",
        dict(zip(("downsample", "head", "affine", "filters"), case[:4], strict=True)),
        images(*case[4:6]),
        case[6],
    )
    for case in itertools.product(
        ("stride", "pool"),
        ("mean", "flatten"),
        ("none", "shift", "scale_shift"),
        (5, 8, 32, 64),
        (1, 3),
        (28, 33),
        (5, 25),
    )
}


@pytest.fixture(params=SOME)
def pair(request: pytest.FixtureRequest, kernels: Library) -> Pair:
    return Pair.make(kernels, *SOME[request.param])


def test_a_pass_is_the_tapes(pair: Pair):
    check(pair, EXACT)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("case", ALL)
def test_every_form_is_the_tapes(kernels: Library, case: str):
    check(Pair.make(kernels, *ALL[case]), EXACT)


@pytest.mark.parametrize("wrt", [(0,), (-1,), (-2, -1), (3, -1), (4,)], ids=str)
@pytest.mark.parametrize("name", ["stride", "tanh"])
def test_some_parameters_may_be_adapted(kernels: Library, name: str, wrt: tuple[int, ...]):
    pair = Pair.make(kernels, *SOME[name])
    names = tuple(pair.params)
    check(pair, EXACT, tuple(names[place] for place in wrt))


def test_constants_are_left_alone(kernels: Library):
    # Nobody differentiates with respect to scale and shift, or to anything at all.
    pair = Pair.make(kernels, *SOME["stride"])
    leaves = {n: p if "norm" in n else p.requires_grad_() for n, p in pair.leaves().items()}
    loss, gradients, _ = pair.fused(leaves, ("conv1.weight",))
    assert gradients["conv1.weight"].requires_grad
    loss, gradients, _ = pair.fused(pair.params, ("conv1.weight",))
    assert not loss.requires_grad
    assert not gradients["conv1.weight"].requires_grad


def test_a_second_derivative_may_be_asked_for_twice(pair: Pair):
    leaves, wrt = pair.leaves(), tuple(pair.params)
    loss, gradients, _ = pair.fused(leaves, wrt)
    made = loss + whole(g * pair.along[n] for n, g in gradients.items())
    first = torch.autograd.grad(made, [*leaves.values()], retain_graph=True)
    second = torch.autograd.grad(made, [*leaves.values()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_further_derivative_is_refused(pair: Pair):
    leaves, wrt = pair.leaves(), tuple(pair.params)
    _, gradients, _ = pair.fused(leaves, wrt)
    made = whole(g.square() for g in gradients.values())
    second = torch.autograd.grad(made, [*leaves.values()], create_graph=True)
    with pytest.raises(RuntimeError, match="more often than"):
        torch.autograd.grad(whole(second), [*leaves.values()])
    leaves = pair.leaves()
    found = pair.kernels.fused_loss(leaves, pair.examples, pair.norm, pair.objective)
    assert found is not None
    first = torch.autograd.grad(found[0], [*leaves.values()], create_graph=True)
    with pytest.raises(RuntimeError, match="more often than"):
        torch.autograd.grad(whole(first), [*leaves.values()], allow_unused=True)


def test_query_side(pair: Pair):
    leaves = pair.leaves()
    wanted, passed = pair.tape(leaves)
    wanted = wanted / SCALE
    mixed = (passed.value * passed.value.detach().cos()).sum()
    wanted_gradients = gradient(wanted + mixed, leaves)
    leaves = pair.leaves()
    found = pair.kernels.fused_loss(leaves, pair.examples, pair.norm, pair.objective)
    assert found is not None
    loss, values = found
    assert distance({"": loss.detach()}, {"": wanted.detach()}) <= EXACT
    assert distance({"": values.detach()}, {"": passed.value.detach()}) <= EXACT
    mixed = (values * values.detach().cos()).sum()
    assert distance(gradient(loss + mixed, leaves), wanted_gradients) <= EXACT


def test_query_side_alone(pair: Pair):
    leaves = pair.leaves()
    found = pair.kernels.fused_loss(leaves, pair.examples, pair.norm, pair.objective)
    assert found is not None
    gradients = torch.autograd.grad(found[0], [*leaves.values()], retain_graph=True)
    _, wanted, _ = pair.fused(pair.params, tuple(pair.params))
    assert distance({n: SCALE * g for n, g in zip(leaves, gradients, strict=True)}, wanted) <= EXACT
    with pytest.raises(RuntimeError, match="kept for one"):
        torch.autograd.grad(found[0], [*leaves.values()])


@pytest.mark.parametrize("head", [True, False])
def test_values_and_features(pair: Pair, head: bool):
    leaves = pair.leaves()
    passed = pair.network.forward(leaves, pair.examples.x, pair.norm, head=head)
    names = [n for n in leaves if head or n not in pair.network.layers[-1].parameters]
    along = torch.randn_like(passed.value)
    inner = {n: leaves[n] for n in names}
    wanted = gradient((passed.value * along).sum(), inner)
    found = pair.kernels.fused_value(inner, pair.examples.x, pair.norm, head=head)
    assert found is not None
    value, statistics = found
    assert distance({"": value.detach()}, {"": passed.value.detach()}) <= EXACT
    assert set(statistics) == set(passed.statistics)
    assert distance(gradient((value * along).sum(), inner), wanted) <= EXACT
    with torch.no_grad():
        plain = pair.kernels.fused_value(inner, pair.examples.x, pair.norm, head=head)
    assert plain is not None
    assert torch.equal(plain[0], value)


def test_what_kernels_do_not_know_is_left_to_torch(kernels: Library):
    pair = Pair.make(kernels, *SOME["stride"])
    wrt, norm, objective = tuple(pair.params), pair.norm, pair.objective
    examples, params = pair.examples, pair.params

    def asked(**changed: Any) -> bool:
        known = {"params": params, "wrt": wrt, "examples": examples, "norm": norm}
        given = {**known, "objective": objective, "scale": 1.0, **changed}
        return pair.kernels.loss_gradient(**given) is not None

    class Own(Classification):
        def loss(self, prediction: Prediction, target: Examples) -> torch.Tensor:
            return super().loss(prediction, target) ** 2

    assert asked()
    assert not asked(norm=Norm("off"))
    assert not asked(norm=Norm("given"))
    assert not asked(objective=Own())
    masked = Examples(examples.x, examples.y, mask=torch.ones(5, dtype=torch.bool))
    assert not asked(examples=masked)
    assert not asked(examples=Examples(examples.x.requires_grad_(), examples.y))
    assert not asked(params={**params, "head.bias": params["head.bias"].float()})
    assert not asked(params={**params, "norm1.shift": params["norm1.shift"].repeat(3, 1)})
    assert not asked(params={n: p for n, p in params.items() if n != "head.bias"})
    assert not asked(wrt=("rule.rate",))
    assert pair.network.loss_gradient(params, wrt, examples, norm, objective, 1.0) is None


def test_one_value_per_channel_is_left_to_torch_which_refuses_it(kernels: Library):
    pair = Pair.make(kernels, "conv4", {"filters": 4}, images(1, 16), 1)
    found = pair.kernels.fused_value(pair.params, pair.examples.x, pair.norm)
    assert found is None


@pytest.mark.parametrize("label", [-1, 5])
def test_labels_are_checked(kernels: Library, label: int):
    pair = Pair.make(kernels, *SOME["stride"])
    pair.examples.y[2] = label
    with pytest.raises(IndexError, match="labels of 0 to 4 are needed"):
        pair.fused(pair.params, tuple(pair.params))


def test_float32_is_as_exact_as_torchs(kernels: Library):
    for name in ("stride", "pool", "tanh"):
        ours, theirs = [], []
        for n in (4, 5, 6, 7, 8):
            options = SOME[name][:3]
            pair = Pair.make(kernels, *options, n, torch.float32)
            double = Pair.make(kernels, *options, n)
            double = Pair(
                double.network,
                double.kernels,
                double.shape,
                Examples(pair.examples.x.double(), _double(pair.examples.y)),
                {n: p.double() for n, p in pair.params.items()},
            )
            wrt = tuple(pair.params)
            leaves = double.leaves()
            loss, gradients, _ = double.fused(leaves, wrt)
            exact = double.second(loss, gradients, leaves)
            leaves = pair.leaves()
            loss, gradients, _ = pair.fused(leaves, wrt)
            ours.append(distance(pair.second(loss, gradients, leaves), exact))
            leaves = pair.leaves()
            loss, _ = pair.tape(leaves)
            gradients = gradient(loss, leaves, create_graph=True)
            theirs.append(distance(pair.second(loss, gradients, leaves), exact))
        middle = len(ours) // 2
        assert sorted(ours)[middle] <= 1.25 * sorted(theirs)[middle]


def _double(y: torch.Tensor) -> torch.Tensor:
    return y.double() if y.is_floating_point() else y
