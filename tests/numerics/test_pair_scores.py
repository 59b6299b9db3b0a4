"""Scores of pairs: with one example of each class they are what a query is classified by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metadist.algorithms.relation import Relation
from metadist.inner.embedding.embedding_learner import Embedded
from tests.contract.cases import Case
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import logits, near

COMPARING = ("matching", "protonet", "relation", "siamese")


def check_pairs(setting: Setting) -> None:
    """They differ from the logits of the examples' classes by a number of the query alone."""
    learner, task, ctx = (
        setting.algorithm,
        setting.tasks.task(0),
        setting.at(phase="test").task_ctx(0),
    )
    # One example of each class, in another order than that of the classes.
    support = task.support[torch.tensor([4, 0, 2])]
    assert support.y.tolist() == [2, 0, 1]
    *_, fitted = learner.adapt(setting.params, task.with_support(support).view(learner.needs), ctx)
    scores = learner.pair_scores(fitted, task.query.without("y"), ctx)
    assert scores is not None
    apart = scores - logits(setting, support)[:, support.y]
    near(apart, apart[:, :1].expand_as(apart))
    assert bool((scores.std(1) > 1e-3).all())


@pytest.mark.parametrize("algorithm", COMPARING)
def test_pairs_are_told_as_classes_of_one_example_are(algorithm: str):
    check_pairs(make(Case(algorithm, "mlp-relu", "none", 0)))


def test_scores_of_classes_are_noticed(monkeypatch: pytest.MonkeyPatch):
    def wrong(self: Relation, fitted: Embedded, queries: Tensor) -> Tensor:
        return self.compared(fitted.params, fitted.known, queries, fitted.norm)[0]

    monkeypatch.setattr(Relation, "paired", wrong)
    with pytest.raises(AssertionError):
        check_pairs(make(Case("relation", "mlp-relu", "none", 0)))


@pytest.mark.parametrize("algorithm", ["maml", "gnn"])
def test_others_have_none(algorithm: str):
    setting = make(Case(algorithm, "mlp-relu", "none", 0))
    fitted = setting.adapted(0)[-1]
    query = setting.tasks.task(0).query.without("y")
    assert setting.algorithm.pair_scores(fitted, query, setting.task_ctx(0)) is None
