"""Siamese networks: symmetry, what is nearest, pairs; each check fails under a mistake.

Predictions and gradients stand in ``siamese_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.algorithms import siamese
from metadist.algorithms.siamese import BIAS, WEIGHT, Siamese
from metadist.keys import Key
from metadist.tasks import Params
from tests.contract.cases import Case
from tests.contract.checks import check_definition
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import check_symmetric

CASE = Case("siamese", "mlp-relu", "none", 0, (("embedding", 5),))
Mistake = Callable[[pytest.MonkeyPatch], None]


def learner_of(setting: Setting) -> Siamese:
    assert isinstance(setting.algorithm, Siamese)
    return setting.algorithm


def embedded(name: str, count: int = 6) -> Tensor:
    return Key.of("siamese", name).uniform((count, 5), torch.float64)


def falling(params: Params) -> Params:
    """With weights that are not above 0."""
    return {**params, WEIGHT: -params[WEIGHT].abs()}


# --- pairs ----------------------------------------------------------------------------------------


def check_either_way(setting: Setting) -> None:
    """p(x, x') is p(x', x), to the bit."""
    learner, a, b = learner_of(setting), embedded("a"), embedded("b", 4)
    there, back = (learner.log_odds(setting.params, *pair) for pair in ((a, b), (b, a)))
    assert there.shape == (6, 4)
    assert torch.equal(there, back.T)


def check_itself_is_nearest(setting: Setting) -> None:
    """With weights at most 0 the largest p is that of an example with itself: sigmoid(b)."""
    learner, params, a = learner_of(setting), falling(setting.params), embedded("a")
    found = learner.log_odds(params, a, torch.cat([a, embedded("b")]))
    own = found[:, :6].diagonal()
    assert torch.equal(own, params[BIAS].expand(6))
    assert bool((found <= own[:, None]).all())
    assert int((found == own[:, None]).sum()) == 6


def signed(patch: pytest.MonkeyPatch) -> None:
    """Differences in the place of distances."""

    def wrong(self: Siamese, params: Params, first: Tensor, second: Tensor) -> Tensor:
        return ((first[:, None] - second) * params[WEIGHT]).sum(2) + params[BIAS]

    patch.setattr(Siamese, "log_odds", wrong)


def products(patch: pytest.MonkeyPatch) -> None:
    """Products in the place of distances."""

    def wrong(self: Siamese, params: Params, first: Tensor, second: Tensor) -> Tensor:
        return (first[:, None] * second * params[WEIGHT]).sum(2) + params[BIAS]

    patch.setattr(Siamese, "log_odds", wrong)


def test_pairs_are_the_same_either_way(monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    check_either_way(setting)
    signed(monkeypatch)
    with pytest.raises(AssertionError):
        check_either_way(setting)


def test_nothing_is_nearer_than_itself(monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    check_itself_is_nearest(setting)
    products(monkeypatch)
    with pytest.raises(AssertionError):
        check_itself_is_nearest(setting)


def test_neither_order_nor_names_matter(monkeypatch: pytest.MonkeyPatch):
    for shots in ("mean", "largest"):
        check_symmetric(make(replace(CASE, options=(*CASE.options, ("shots", shots)))))

    def by_place(similarities: Tensor, labels: Tensor, ways: int) -> Tensor:
        return similarities.reshape(len(similarities), ways, -1).amax(2)

    setting = make(replace(CASE, options=(*CASE.options, ("shots", "largest"))))
    monkeypatch.setattr(siamese, "nearest_logits", by_place)
    with pytest.raises(AssertionError):
        check_symmetric(setting)


# --- the loss -------------------------------------------------------------------------------------


def by_place_of_the_query(patch: pytest.MonkeyPatch) -> None:
    """Labels of pairs in the order of the support set, read in that of queries."""
    right = Siamese.pair_loss

    def wrong(self: Siamese, pairs: Tensor, labels: Tensor, query: object) -> Tensor:
        return right(self, pairs, labels.flip(0), query)  # type: ignore[arg-type]

    patch.setattr(Siamese, "pair_loss", wrong)


def likelihood(patch: pytest.MonkeyPatch) -> None:
    """The sign that the paper prints."""
    right = Siamese.pair_loss
    patch.setattr(Siamese, "pair_loss", lambda *given: -right(*given))


def all_alike(patch: pytest.MonkeyPatch) -> None:
    """Every pair with the same weight where both kinds are to have it."""
    right = Siamese.pair_loss

    def wrong(self: Siamese, *given: object) -> Tensor:
        options = self.options.model_copy(update={"pairs": "all"})
        return right(replace(self, options=options), *given)  # type: ignore[arg-type]

    patch.setattr(Siamese, "pair_loss", wrong)


@pytest.mark.parametrize("mistake", [by_place_of_the_query, likelihood, all_alike])
def test_another_loss_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    check_definition(setting, setting.loop())
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_definition(setting, setting.loop())


@pytest.mark.parametrize("pairs", ["balanced", "all"])
def test_queries_that_do_not_count_have_no_pairs(pairs: str):
    setting = make(replace(CASE, options=(*CASE.options, ("pairs", pairs))))
    learner, task = learner_of(setting), setting.tasks.task(0)
    query, size = task.query, len(task.query)
    kept = torch.arange(size) < size - 2
    masked = type(query)(query.x, query.y, mask=kept)
    found = Key.of("pairs").normal((size, len(task.support)), torch.float64)
    few = query[torch.arange(size - 2)]
    wanted = learner.pair_loss(found[: size - 2], task.support.y, few)
    torch.testing.assert_close(learner.pair_loss(found, task.support.y, masked), wanted)
    assert not torch.equal(wanted, learner.pair_loss(found, task.support.y, query))


def test_weights_that_tell_classes_apart_are_told():
    setting = make(CASE)
    weight = setting.params[WEIGHT]
    told = learner_of(setting).learned_quantities(setting.params)
    assert told["pair_weight_min"] == {"a": [float(weight.min())]}
    assert told["pair_weight_max"] == {"a": [float(weight.max())]}
