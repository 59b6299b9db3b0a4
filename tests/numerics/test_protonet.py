"""Prototypical networks: what follows from their equations, each seen to fail under a mistake.

Predictions and gradients stand in ``metric_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.algorithms import protonet
from metadist.compute.learners import build, with_ways
from metadist.inner.similarity import class_means, squared_distances
from metadist.keys import Key
from tests.contract.cases import WAYS, Case
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import check_symmetric, logits, near
from tests.numerics.metric_reference import features, mean

CASE = Case("protonet", "conv4-pool", "support")
Mistake = Callable[[pytest.MonkeyPatch], None]


# --- the linear classifier ------------------------------------------------------------------------


def check_linear(setting: Setting) -> None:
    """The probabilities are those of a linear classifier of features (section 2.4 of the paper).

    Its weights are twice the class means and its biases minus their squares.
    """
    episode, reference = setting.episodes[0], setting.case.reference
    found = features(reference, setting.params, episode, training=False)
    means = torch.stack([mean(vectors) for vectors in found.classes])
    linear = torch.stack(found.queries) @ (2 * means).T - (means**2).sum(1)
    near(logits(setting).softmax(1), linear.softmax(1))


def test_it_is_a_linear_classifier_of_its_features():
    check_linear(make(CASE))


def mean_over_ways(patch: pytest.MonkeyPatch) -> None:
    """Divided by the number of classes, as a circulated copy of the algorithm has it."""

    def wrong(features: Tensor, labels: Tensor, ways: int) -> Tensor:
        right: Tensor = class_means(features, labels, ways)
        return right * (len(labels) / ways / ways)

    patch.setattr(protonet, "class_means", wrong)


def plain_distance(patch: pytest.MonkeyPatch) -> None:
    """The distance in place of its square."""
    patch.setattr(protonet, "squared_distances", lambda a, b: squared_distances(a, b).sqrt())


def doubled_bias(patch: pytest.MonkeyPatch) -> None:
    """The square of a prototype counted twice."""

    def wrong(a: Tensor, b: Tensor) -> Tensor:
        right: Tensor = squared_distances(a, b)
        return right + b.square().sum(1)

    patch.setattr(protonet, "squared_distances", wrong)


@pytest.mark.parametrize("mistake", [mean_over_ways, plain_distance, doubled_bias])
def test_a_wrong_classifier_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_linear(setting)


def test_squared_distances_are_those_of_the_differences():
    a, b = (Key.of(name).normal((5, 7), torch.float64) for name in "ab")
    near(squared_distances(a, b), (a[:, None] - b).square().sum(-1))


# --- symmetries -----------------------------------------------------------------------------------


def first_of_a_class(patch: pytest.MonkeyPatch) -> None:
    """One example of each class in place of their mean."""

    def wrong(features: Tensor, labels: Tensor, ways: int) -> Tensor:
        return torch.stack([features[labels == way][0] for way in range(ways)])

    patch.setattr(protonet, "class_means", wrong)


def classes_by_place(patch: pytest.MonkeyPatch) -> None:
    """Classes in the order in which they are met."""

    def wrong(features: Tensor, labels: Tensor, ways: int) -> Tensor:
        met = list(dict.fromkeys(labels.tolist()))
        return torch.stack([features[labels == way].mean(0) for way in met])

    patch.setattr(protonet, "class_means", wrong)


@pytest.mark.parametrize("metric", ["squared_euclidean", "cosine"])
def test_neither_order_nor_names_matter(metric: Any):
    check_symmetric(make(replace(CASE, options=(("metric", metric),))))


@pytest.mark.parametrize("mistake", [first_of_a_class, classes_by_place])
def test_what_depends_on_order_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_symmetric(setting)


# --- more ways in training than at test -----------------------------------------------------------


def test_what_was_trained_with_many_ways_tells_few_apart():
    setting = make(CASE)
    recipe, shape = CASE.recipe, CASE.network.shape
    many = build(recipe, replace(shape, outputs=9, ways=9))
    assert {n: p.shape for n, p in many.init(Key.of("a")).items()} == {
        n: p.shape for n, p in setting.params.items()
    }
    few = with_ways(recipe, replace(shape, outputs=9, ways=9), setting.params, WAYS)
    assert torch.equal(logits(replace(setting, algorithm=few)), logits(setting))


def test_training_passes_support_and_queries_in_one_batch(monkeypatch: pytest.MonkeyPatch):
    """Of a run whose averages are then used; every example counts in them once."""
    setting = make(replace(CASE, norm="running"))
    seen: list[int] = []
    forward = type(setting.algorithm.encoder).forward  # type: ignore[attr-defined]

    def counted(self: Any, params: Any, x: Tensor, norm: Any, **how: Any) -> Any:
        seen.append(len(x))
        return forward(self, params, x, norm, **how)

    monkeypatch.setattr(type(setting.algorithm.encoder), "forward", counted)  # type: ignore[attr-defined]
    setting.only(0).loop()
    episode = setting.episodes[0]
    assert seen == [len(episode.support_x) + len(episode.query_x)]
