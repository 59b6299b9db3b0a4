"""Relation networks on maps of features: their definition, their symmetries, mistakes in them.

The contract tests compare predictions and gradients with ``metric_reference.py`` on networks whose
features are no maps, or maps of one position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from metadist.algorithms.relation import Relation, RelationModule
from metadist.context import NormMode
from metadist.inner.similarity import class_means
from tests.contract.cases import MODELS, Case, Model
from tests.contract.checks import check_definition
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import check_symmetric, logits, near
from tests.numerics.metric_reference import prediction
from tests.numerics.metric_reference import relation as defined
from tests.numerics.reference import EXACT, Net

#: Two of four blocks halve images of 16x16: maps of 4x4.
MAPS = replace(
    MODELS["conv4-pool"],
    options={**MODELS["conv4-pool"].options, "halvings": 2},
    net=Net("conv4", pool=True, flatten=True, halvings=2),
)
CASE = Case("relation", "conv4-maps", "support", options=(("channels", 3), ("hidden", 2)))
Mistake = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _maps(monkeypatch: pytest.MonkeyPatch) -> None:
    models: dict[str, Model] = MODELS
    monkeypatch.setitem(models, "conv4-maps", MAPS)


def check_predictions(setting: Setting) -> None:
    """Those of a second program."""
    case = setting.case
    wanted = prediction(defined)(case.reference, setting.params, setting.episodes[0], {})
    torch.testing.assert_close(logits(setting), wanted, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("norm", ["running", "support", "transductive"])
def test_maps_are_compared_as_defined(norm: NormMode):
    setting = make(replace(CASE, norm=norm)).only(0)
    assert setting.params["relation.conv1.weight"].shape == (3, 8, 3, 3)
    assert setting.params["relation.hidden.weight"].shape == (2, 3)
    check_definition(setting, setting.loop())
    if norm != "running":
        check_predictions(setting)


def mean_of_shots(patch: pytest.MonkeyPatch) -> None:
    """Shots averaged, where the paper adds them."""
    right = class_means
    patch.setattr(
        Relation, "known", lambda self, params, features, labels: right(features, labels, 3)
    )


def query_first(patch: pytest.MonkeyPatch) -> None:
    """The query's map before that of the class."""
    right = RelationModule._paired

    def wrong(self, params, classes, queries):
        swapped = right(self, params, queries, classes)
        size = len(queries), len(classes), *swapped.shape[1:]
        return swapped.reshape(size[1], size[0], *size[2:]).transpose(0, 1).flatten(0, 1)

    patch.setattr(RelationModule, "_paired", wrong)


def other_pairs(patch: pytest.MonkeyPatch) -> None:
    """Scores of pairs in the order of classes, read in that of queries."""
    right = RelationModule._paired

    def wrong(self, params, classes, queries):
        pairs = right(self, params, classes, queries)
        table = pairs.reshape(len(queries), len(classes), *pairs.shape[1:])
        return table.transpose(0, 1).flatten(0, 1)

    patch.setattr(RelationModule, "_paired", wrong)


@pytest.mark.parametrize("mistake", [mean_of_shots, query_first, other_pairs])
def test_other_comparisons_are_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_predictions(setting)


def test_neither_order_nor_names_matter():
    check_symmetric(make(CASE))


def test_names_of_other_pairs_are_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    other_pairs(monkeypatch)
    with pytest.raises(AssertionError):
        check_symmetric(setting)


def test_a_query_is_compared_by_itself_where_normalisation_knows_the_support():
    setting = make(CASE)
    task, learner = setting.tasks.task(0), setting.algorithm
    (fitted,) = learner.adapt(setting.params, task.view(learner.needs), setting.task_ctx(0))
    query = task.query.without("y")
    few = learner.predict(fitted, query[torch.tensor([1])], setting.task_ctx(0)).mean
    near(few[0], logits(setting)[1])


def test_running_averages_are_of_both_networks():
    setting = make(replace(CASE, norm="running"))
    names = {name.rpartition(".")[0] for name in setting.ctx.state}
    assert names == {*(f"norm{i}" for i in range(1, 5)), "relation.norm1", "relation.norm2"}
    assert set(setting.only(0).loop().statistics) == set(setting.algorithm.statistics(setting.ctx))
