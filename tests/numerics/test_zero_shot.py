"""Prototypes of attributes: of unit length, of no image; each check fails under a mistake.

Predictions and gradients stand in ``metric_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.algorithms.protonet import ATTRIBUTES, ProtoNet
from metadist.compute.learners import build
from metadist.errors import RecipeError
from metadist.inner.similarity import class_means, squared_distances
from metadist.keys import Key
from metadist.tasks import Params
from tests.contract.cases import WAYS, Case
from tests.contract.setting import Setting, make, with_columns
from tests.numerics.metric_checks import logits, near

CASE = Case("protonet", "mlp-relu", "none", 0, (("prototypes", "attributes"),))


def learner_of(setting: Setting) -> ProtoNet:
    assert isinstance(setting.algorithm, ProtoNet)
    return setting.algorithm


def encoded(setting: Setting, x: Tensor) -> Tensor:
    learner = learner_of(setting)
    norm = learner.normalisation.support(setting.ctx)
    return learner.features(setting.params, x, norm, setting.ctx)[0]


def with_means(setting: Setting) -> tuple[Setting, Tensor]:
    """Attributes that are the class means of features [N, D], and a map that leaves them so."""
    task, learner = setting.tasks.task(0), learner_of(setting)
    means = class_means(encoded(setting, task.support.x), task.support.y, WAYS)
    size = means.shape[1]
    assert learner.attribute_map is not None
    mapped = replace(learner, attribute_map=replace(learner.attribute_map, inputs=size))
    own: Params = {
        "attributes.weight": torch.eye(size, dtype=torch.float64),
        "attributes.bias": torch.zeros(size, dtype=torch.float64),
    }
    tasks = with_columns(setting.tasks.slice(0, 1), **{ATTRIBUTES: means[None]})
    return replace(setting, algorithm=mapped, params={**setting.params, **own}, tasks=tasks), means


def check_means(setting: Setting) -> None:
    """With a map that returns class means it is the learner of examples, but for their length."""
    told, means = with_means(setting)
    queries = encoded(setting, setting.tasks.task(0).query.x)
    near(logits(told), -squared_distances(queries, means / means.norm(dim=1, keepdim=True)))


def test_of_class_means_it_is_the_learner_of_examples(monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    check_means(setting)
    monkeypatch.setattr(F, "normalize", lambda x, dim: x)
    with pytest.raises(AssertionError):
        check_means(setting)


def check_no_image(setting: Setting) -> None:
    """Other support images change nothing, other attributes do."""
    support = setting.tasks.task(0).support
    plain = logits(setting)
    other = support.with_x(Key.of("other").normal(support.x.shape, torch.float64))
    assert torch.equal(logits(setting, other), plain)
    attributes = setting.tasks.tensors[ATTRIBUTES]
    moved = replace(setting, tasks=with_columns(setting.tasks, **{ATTRIBUTES: attributes.flip(1)}))
    near(logits(moved), plain.flip(1))
    assert not torch.equal(logits(moved), plain)


def test_no_image_of_a_class_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    check_no_image(setting)

    def wrong(self: ProtoNet, params: Params, features: Tensor, labels: Tensor) -> Tensor:
        assert self.attribute_map is not None
        assert self.attributes is not None
        means = class_means(features, labels, self.ways)
        return F.normalize(self.attribute_map(params, self.attributes) + means, dim=1)

    monkeypatch.setattr(ProtoNet, "known", wrong)
    with pytest.raises(AssertionError):
        check_no_image(setting)


def test_without_attributes_it_is_refused():
    shape = replace(CASE.network.shape, attributes=0)
    setting = make(CASE)
    with pytest.raises(RecipeError, match=r"set data\.attributes = true"):
        build(CASE.recipe, shape)
    assert setting.algorithm.needs == {ATTRIBUTES}
    assert make(replace(CASE, options=())).algorithm.needs == frozenset()
