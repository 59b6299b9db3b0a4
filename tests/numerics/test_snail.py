"""SNAIL: causality, what queries share, what they do not see; each check fails under a mistake.

Predictions and gradients stand in ``sequence_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from metadist.algorithms import snail
from metadist.algorithms.snail import SNAIL
from metadist.inner.blocks.causal import (
    AttentionBlock,
    CausalConvolution,
    CausalNetwork,
    DenseBlock,
    temporal,
)
from metadist.inner.blocks.linear import Linear
from metadist.keys import Key
from metadist.tasks import Params
from tests.contract.cases import WAYS, Case
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import logits, near

CASE = Case("snail", "mlp-relu", "none")
PLACES, INPUTS, LAYERS = 7, 3, 2
Mistake = Callable[[pytest.MonkeyPatch], None]


def double(name: str, *shape: int) -> Tensor:
    return Key.of("snail", name).normal(shape, torch.float64)


def network(filters: int = 4) -> tuple[CausalNetwork, Params]:
    """A small one, with parameters in float64."""
    built = snail.blocks(INPUTS, filters, LAYERS)
    return built, {n: p.double() for n, p in built.init(Key.of("snail")).items()}


# --- causality ------------------------------------------------------------------------------------


def check_causal() -> None:
    """Another item at a place changes no bit before it, and something from it on."""
    blocks, params = network()
    sequence = double("sequence", PLACES, INPUTS)
    found = blocks.whole(params, sequence)
    for place in range(PLACES):
        other = sequence.clone()
        other[place] += 1
        moved = blocks.whole(params, other)
        assert torch.equal(moved[:place], found[:place])
        assert bool((moved[place:] != found[place:]).any(1).all())


def everything_in_sight(patch: pytest.MonkeyPatch) -> None:
    """Attention without its mask."""

    def wrong(self, params, x):
        query, key, value = (part(params, x) for part in self._parts())
        return (query @ key.T / self.keys**0.5).softmax(1) @ value

    patch.setattr(AttentionBlock, "whole", wrong)


def places_apart(patch: pytest.MonkeyPatch) -> None:
    """Nothing of what stands before a place reaches it."""
    patch.setattr(AttentionBlock, "whole", lambda self, p, x: self._parts()[2](p, x))
    patch.setattr(CausalConvolution, "whole", lambda self, p, x: self._here(p, x))


def centred(patch: pytest.MonkeyPatch) -> None:
    """A convolution whose second place lies ahead."""

    def wrong(self, params, x):
        ahead = torch.cat([x, x.new_zeros(self.dilation, x.shape[1])])[self.dilation :]
        return self._here(params, x) + self._before(params, ahead)

    patch.setattr(CausalConvolution, "whole", wrong)


def test_what_comes_later_changes_nothing_before_it():
    check_causal()


@pytest.mark.parametrize("mistake", [everything_in_sight, places_apart, centred])
def test_what_is_not_causal_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_causal()


def check_sight() -> None:
    """A temporal convolution sees the last 2^layers places, each of them, and no other."""
    blocks = CausalNetwork(tuple(temporal("t", INPUTS, 4, LAYERS)))
    params = {n: p.double() for n, p in blocks.init(Key.of("sight")).items()}
    sequence = double("sight", PLACES, INPUTS).requires_grad_()
    last = blocks.whole(params, sequence)[-1, INPUTS:]
    (slope,) = torch.autograd.grad((last**2).sum(), sequence)
    seen = slope.abs().sum(1) > 0
    assert seen.tolist() == [place >= PLACES - 2**LAYERS for place in range(PLACES)]


def even_distances(patch: pytest.MonkeyPatch) -> None:
    """Dilations 2, 4 and so on."""
    right = DenseBlock._convolutions

    def wrong(self):
        return right(DenseBlock(self.name, self.inputs, self.filters, 2 * self.dilation))

    patch.setattr(DenseBlock, "_convolutions", wrong)


def test_a_temporal_convolution_sees_every_place_of_its_reach():
    check_sight()


def test_places_that_are_left_out_are_noticed(monkeypatch: pytest.MonkeyPatch):
    even_distances(monkeypatch)
    with pytest.raises(AssertionError):
        check_sight()


# --- sequences that share their beginning ---------------------------------------------------------


def check_last() -> None:
    """The end of each sequence is what the whole sequence gives, whatever the beginning's size."""
    blocks, params = network()
    ends = double("ends", 4, INPUTS)
    for size in (1, 2, PLACES):
        support = double("support", size, INPUTS)
        found = blocks.last(params, blocks.whole(params, support), ends)
        wanted = [blocks.whole(params, torch.cat([support, end[None]]))[-1] for end in ends]
        near(found, torch.stack(wanted))


def one_place_off(patch: pytest.MonkeyPatch) -> None:
    """The beginning of a sequence, read one place off."""
    right = CausalConvolution.last
    patch.setattr(
        CausalConvolution, "last", lambda self, p, past, x: right(self, p, past.roll(1, 0), x)
    )


def not_itself(patch: pytest.MonkeyPatch) -> None:
    """A query that reads of the support set alone."""

    def wrong(self, params, past, x):
        query = self._parts()[0](params, x)
        key, value = (part(params, past) for part in self._parts()[1:])
        return (query @ key.T / self.keys**0.5).softmax(1) @ value

    patch.setattr(AttentionBlock, "last", wrong)


def test_queries_are_the_ends_of_sequences_of_their_own():
    check_last()


@pytest.mark.parametrize("mistake", [one_place_off, not_itself])
def test_other_ends_are_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_last()


def check_null_label(setting: Setting) -> None:
    """A query stands in its sequence without a label, and knows of no other query."""
    learner, task = setting.algorithm, setting.tasks.task(0)
    assert isinstance(learner, SNAIL)
    ctx = setting.at(phase="test").task_ctx(0)
    (fitted,) = learner.adapt(setting.params, task.view(learner.needs), ctx)
    features = learner.encoder.forward(setting.params, task.query.x, fitted.norm).value
    embedded = learner.embedding(setting.params, features)
    nulls = torch.zeros(len(embedded), WAYS, dtype=embedded.dtype)
    places = torch.cat([embedded, nulls], 1)
    ends = learner.blocks.last(setting.params, fitted.known, places)
    near(logits(setting), learner.classifier(setting.params, ends))
    alone = learner.predict(fitted, task.query.without("y")[torch.tensor([1])], ctx).mean
    near(alone[0], logits(setting)[1])


def mean_label(patch: pytest.MonkeyPatch) -> None:
    """A query that is a little of each class."""
    right = SNAIL.places

    def wrong(self, params, features, coded):
        return right(self, params, features, coded + (coded.sum(1, keepdim=True) == 0) / self.ways)

    patch.setattr(SNAIL, "places", wrong)


def queries_in_a_row(patch: pytest.MonkeyPatch) -> None:
    """All queries one after the other in one sequence."""

    def wrong(self, params, past, x):
        for block in self.blocks:
            so_far = torch.cat([past[:, : block.inputs], x])
            x = torch.cat([x, block.whole(params, so_far)[len(past) :]], 1)
        return x

    patch.setattr(CausalNetwork, "last", wrong)


def test_a_query_has_no_label():
    check_null_label(make(CASE))


@pytest.mark.parametrize("mistake", [mean_label, queries_in_a_row])
def test_a_label_or_another_query_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_null_label(setting)


def test_order_means_something():
    setting = make(CASE)
    support = setting.tasks.task(0).support
    other = logits(setting, support[torch.arange(len(support)).flip(0)])
    assert float((other - logits(setting)).abs().max()) > 1e-4


# --- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [DenseBlock("b", 2, 2, 1), AttentionBlock("b", 2, 2, 3), CausalConvolution("b", 2, 2, 2)],
    ids=lambda block: type(block).__name__,
)
def test_blocks_have_second_derivatives_and_are_the_same_under_vmap(
    block: DenseBlock | AttentionBlock | CausalConvolution,
):
    params = {n: p.double().requires_grad_() for n, p in block.init(Key.of("b")).items()}
    names = list(params)

    def both(x: Tensor, end: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(names, tensors, strict=True))
        return block.whole(given, x), block.last(given, x, end)

    x, end = double("short", 3, 2).requires_grad_(), double("end", 2, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(both, (x, end, *params.values()))
    many = double("many", 4, 3, 2)
    together = torch.func.vmap(lambda s: block.whole(params, s))(many)
    near(together, torch.stack([block.whole(params, s) for s in many]))


def test_a_linear_map_may_have_no_bias():
    params = Linear("a", 2, 3, bias=False).init(Key.of("a"))
    assert {n: tuple(p.shape) for n, p in params.items()} == {"a.weight": (3, 2)}
    x = torch.eye(2)
    assert torch.equal(Linear("a", 2, 3, bias=False)(params, x), params["a.weight"].T)
