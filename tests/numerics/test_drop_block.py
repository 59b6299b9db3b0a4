"""DropBlock: what it drops, by a second program; that it is the task's own, and of training."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from metadist.algorithms import protonet
from metadist.backbones import DropBlock, Drops, Norm
from metadist.backbones._drop_block import BITS, mixed
from metadist.backbones._from_module import from_module
from metadist.compute.learners import build
from metadist.context import NormMode
from metadist.errors import RecipeError
from metadist.inner.normalisation import DROPS
from metadist.keys import Key
from metadist.learner import Learner
from metadist.tasks import TaskShape
from tests.contract.cases import MODELS, Case, Model, built
from tests.contract.checks import check_differences, check_same
from tests.contract.setting import make
from tests.numerics.metric_checks import logits

#: A quarter of everything is dropped, from the first step on.
DROPPED = {"drop_rate": 0.25, "drop_size": 2, "drop_over": 0}
CASE = Case("protonet", "dropping", "none")


@pytest.fixture(autouse=True)
def _dropping(monkeypatch: pytest.MonkeyPatch) -> None:
    models: dict[str, Model] = MODELS
    small = MODELS["resnet12"]
    changed = replace(small, options={**small.options, **DROPPED}, norms=("none", "running"))
    monkeypatch.setitem(models, "dropping", changed)


def drops(*seed: int, step: int = 0, salt: int = 0) -> Drops:
    return Drops(torch.tensor(seed or (123, 456)), step, salt)


# --- random bits ----------------------------------------------------------------------------------


def test_mixing_is_a_bijection_in_which_every_bit_matters():
    x = torch.arange(1 << 12) * 1048573
    assert len(mixed(x & 0xFFFFFFFF).unique()) == 1 << 12
    for bit in range(BITS):
        changed = mixed(x & 0xFFFFFFFF) ^ mixed((x ^ (1 << bit)) & 0xFFFFFFFF)
        share = torch.stack([(changed >> one) & 1 for one in range(BITS)]).double().mean(1)
        assert bool(((share > 0.4) & (share < 0.6)).all())


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_bits_are_uniform_and_those_of_other_tasks_passes_and_places_are_others():
    count = 1 << 15
    found = {
        (seed, salt): drops(seed, 7 * seed + 1, salt=salt).bits((count,)).double() / 2**BITS
        for seed in (0, 1, 2)
        for salt in (0, 1, 2)
    }
    # Six deviations of the mean, and of the covariance of independent ones.
    bound = 6 / (12 * count) ** 0.5
    for numbers in found.values():
        assert abs(float(numbers.mean()) - 0.5) < bound
        assert abs(float(numbers.var()) - 1 / 12) < bound
        for lag in (1, 2, 5, 25):
            assert abs(correlation(numbers[lag:], numbers[:-lag])) < 6 / count**0.5
    for one, other in itertools.combinations(found.values(), 2):
        assert abs(correlation(one, other)) < 6 / count**0.5
    places = [drops().at(a).at(b).bits((4,)).tolist() for a in range(4) for b in range(4)]
    assert len({tuple(place) for place in places}) == 16


# --- one layer ------------------------------------------------------------------------------------


def by_hand(layer: DropBlock, x: Tensor, given: Drops) -> Tensor:
    """Ghiasi et al., 2018, algorithm 1, square by square."""
    n, channels, height, width = x.shape
    size, rate = min(layer.size, height, width), layer.rate_at(given.step)
    high, wide = height - size + 1, width - size + 1
    gamma = rate / size**2 * height * width / (high * wide)
    uniform = given.bits((n, channels, high, wide)) / 2**BITS
    mask = torch.ones_like(x)
    for i, c, row, column in (uniform < gamma).nonzero().tolist():
        mask[i, c, row : row + size, column : column + size] = 0
    if layer.size == 1:
        return x * mask / (1 - rate)
    return x * mask * mask.numel() / mask.sum()


@pytest.mark.parametrize(
    ("rate", "size", "sides"),
    [(0.3, 1, (4, 5)), (0.2, 3, (7, 6)), (0.2, 5, (5, 5)), (0.3, 4, (3, 2))],
)
def test_squares_are_dropped_as_in_the_paper(rate: float, size: int, sides: tuple[int, int]):
    x = Key.of("maps").normal((6, 4, *sides), torch.float64)
    layer = DropBlock(rate, size)
    got = layer.dropped(x, drops())
    torch.testing.assert_close(got, by_hand(layer, x, drops()), rtol=1e-12, atol=1e-12)
    assert bool((got == 0).any())
    assert torch.equal(layer(x), x)


def test_as_much_is_dropped_as_the_probability_of_a_corner_says():
    rate, size, side = 0.2, 3, 7
    layer, x = DropBlock(rate, size), torch.ones(400, 10, side, side)
    gamma = rate / size**2 * side**2 / (side - size + 1) ** 2
    # How many squares of a row of places hold each of them.
    over = [min(i, side - 1 - i, size - 1, side - size) + 1 for i in range(side)]
    wanted = [1 - (1 - gamma) ** (a * b) for a in over for b in over]
    lost = (layer.dropped(x, drops()) == 0).double().mean((0, 1)).flatten()
    torch.testing.assert_close(lost, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=0.03)
    assert float(layer.dropped(x, drops()).mean()) == pytest.approx(1)


def test_the_rate_rises():
    rising = DropBlock(0.1, 5, over=200)
    assert [rising.rate_at(step) for step in (0, 50, 200, 10**6)] == [0, 0.025, 0.1, 0.1]
    x = torch.ones(40, 4, 8, 8)
    assert torch.equal(rising.dropped(x, drops(step=0)), x)
    shares = [(rising.dropped(x, drops(step=s)) == 0).sum() for s in (100, 200)]
    assert 0 < shares[0] < shares[1]


def test_a_pass_that_loses_everything_is_finite():
    gone = DropBlock(0.9999, 5).dropped(torch.ones(1, 1, 5, 5), drops(1, 1))
    assert bool(gone.isfinite().all())


def test_dropout_of_features_that_are_no_maps():
    x = torch.ones(500, 40, dtype=torch.float64)
    got = DropBlock(0.25).dropped(x, drops())
    assert sorted(got.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert float(got.mean()) == pytest.approx(1, abs=0.03)


# --- a learner ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_task_after_the_other_and_all_at_once():
    setting = make(CASE)
    check_same(setting.vmap(2), setting.looped)
    check_differences(setting)


def test_what_is_dropped_is_that_of_the_task_and_the_step():
    setting = make(CASE)
    (own,), (other,) = (s.loop().metrics["loss"] for s in (setting.only(0), setting.only(1)))
    exchanged = replace(setting.only(0), noise=setting.noise[1:2])
    again = setting.only(0).loop().metrics["loss"]
    assert float(again) == float(own)
    assert float(exchanged.loop().metrics["loss"]) not in (float(own), float(other))
    silent = replace(setting.only(0), noise=[{}])
    assert float(silent.loop().metrics["loss"]) != float(own)


@pytest.mark.parametrize("norm", ["none", "running"])
def test_nothing_is_dropped_at_test(norm: NormMode):
    setting = make(replace(CASE, norm=norm)).at(phase="test")
    assert DROPS not in setting.noise[0]
    plain = replace(setting, algorithm=built(Case("protonet", "resnet12", norm)))
    assert torch.equal(logits(setting), logits(plain))


@pytest.mark.slow
def test_support_and_queries_and_inner_steps_drop_other_things():
    setting = make(replace(CASE, algorithm="maml", steps=2))
    learner, ctx = setting.algorithm, setting.task_ctx(0)
    how = learner.normalisation  # type: ignore[attr-defined]
    found = [how.drops(ctx, step, query=query) for step in (0, 1, 2) for query in (False, True)]
    assert len({one.salt for one in found}) == 6
    support = setting.tasks.task(0).support
    given = [how.support(ctx, 0), how.support(ctx, 1), how.query(setting.params, support, ctx, 1)]
    assert [norm.drops.salt for norm in given] == [found[0].salt, found[2].salt, found[3].salt]
    check_same(setting.vmap(3), setting.looped)


class Small(nn.Module):
    """A network of somebody's own that drops features."""

    def __init__(self, inputs: tuple[int, ...], outputs: int, rate: float = 0.5) -> None:
        super().__init__()
        self.body = nn.Linear(inputs[0], 12)
        self.drop = DropBlock(rate)
        self.head = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x).relu()))


def test_a_module_of_ones_own_may_have_it():
    part = from_module(Small)
    shape = TaskShape((5,), 3, ways=3)
    network = part.build(part.Options(), shape)
    assert network.drops
    assert not part.build(part.Options.model_validate({"rate": 0.0}), shape).drops
    params, x = network.init(Key.of("a")), Key.of("x").normal((4, 5))
    norms = Norm("off"), Norm("off", drops=drops())
    plain, dropped = (network.forward(params, x, norm) for norm in norms)
    assert bool((dropped.features == 0).any(1).all())
    kept = dropped.features != 0
    torch.testing.assert_close(dropped.features[kept], 2 * plain.features[kept])


def test_a_learner_that_has_no_random_numbers_for_it_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protonet.ProtoNet, "noise", Learner.noise)
    with pytest.raises(RecipeError, match="drops a part of its features"):
        build(CASE.recipe, CASE.network.shape)


# --- mistakes -------------------------------------------------------------------------------------


def unscaled(self: DropBlock, x: Tensor, given: Drops) -> Tensor:
    found = by_hand(self, x, given)
    return x * (found != 0)


def rows_only(self: DropBlock, x: Tensor, given: Drops) -> Tensor:
    size = min(self.size, *x.shape[2:])
    corners = given.bits((*x.shape[:2], x.shape[2] - size + 1, x.shape[3])) / 2**BITS
    mask = torch.ones_like(x)
    for i, c, row, column in (corners < self.rate / size).nonzero().tolist():
        mask[i, c, row : row + size, column] = 0
    return x * mask * mask.numel() / mask.sum()


@pytest.mark.parametrize("mistake", [unscaled, rows_only], ids=lambda m: m.__name__)
def test_another_way_of_dropping_is_noticed(
    mistake: Callable[[DropBlock, Tensor, Drops], Tensor], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(DropBlock, "dropped", mistake)
    with pytest.raises(AssertionError):
        test_squares_are_dropped_as_in_the_paper(0.2, 3, (7, 6))


@pytest.mark.slow
def test_the_same_mask_for_all_passes_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Drops, "at", lambda self, place: self)
    with pytest.raises(AssertionError):
        test_support_and_queries_and_inner_steps_drop_other_things()
