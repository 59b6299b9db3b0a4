"""Baseline++, and neighbours after fine-tuning: what is kept, what is trained, mistakes in them.

Predictions and joint gradients stand in ``metric_reference.py`` and ``baselines_reference.py`` and
are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from metadist.algorithms import baselinepp
from metadist.algorithms.baselinepp import BaselinePP, CosineHead
from metadist.compute.learners import build
from metadist.context import Context
from tests.contract.cases import Case
from tests.contract.checks import check_definition
from tests.contract.setting import Setting, make
from tests.numerics.definitions import PREDICTIONS
from tests.numerics.metric_checks import logits, near
from tests.numerics.reference import EXACT

CASE = Case("baselinepp", "conv4-stride", "support", 3)
Mistake = Callable[[pytest.MonkeyPatch], None]


def check_predictions(setting: Setting) -> None:
    """Those of a second program, after three steps of torch's SGD."""
    now = setting.at(phase="test")
    given = now.case.reference, now.params, now.episodes[0], now.noise[0]
    wanted = PREDICTIONS[now.case.algorithm](*given)
    torch.testing.assert_close(logits(now), wanted, rtol=EXACT, atol=EXACT)


def test_the_length_of_a_class_vector_means_nothing():
    setting = make(CASE)
    before = setting.loss(setting.params)
    longer = {**setting.params, "head.weight": 3 * setting.params["head.weight"]}
    near(setting.loss(longer), before)
    other = {**setting.params, "conv4.weight": 3 * setting.params["conv4.weight"]}
    assert abs(float(setting.loss(other) - before)) > 1e-6


def test_among_many_classes_the_softmax_is_steep():
    shape = replace(CASE.network.shape, classes=201)
    found = [build(CASE.recipe, one) for one in (CASE.network.shape, shape)]
    scales = []
    for learner in found:
        assert isinstance(learner, BaselinePP)
        assert isinstance(learner.network, CosineHead)
        scales.append((learner.network.scale, learner.scale))
    assert scales == [(2.0, 2.0), (10.0, 2.0)]


def test_the_network_is_kept_in_a_new_task():
    setting = make(CASE).at(phase="test")
    task, ctx = setting.tasks.task(0), setting.task_ctx(0)
    (fitted,) = setting.algorithm.adapt(setting.params, task.view(setting.algorithm.needs), ctx)
    assert fitted.params is setting.params
    plain = setting.at(phase="test", inner_steps=0).task_ctx(0)
    (before,) = setting.algorithm.adapt(setting.params, task.view(setting.algorithm.needs), plain)
    assert float((fitted.weights - before.weights).abs().max()) > 1e-4


def inner_products(patch: pytest.MonkeyPatch) -> None:
    """No division by lengths."""
    patch.setattr(baselinepp, "cosine", lambda a, b: a @ b.T)


def no_momentum(patch: pytest.MonkeyPatch) -> None:
    """Each step by its own slope alone."""
    right = BaselinePP.adapt

    def wrong(self, params, task, ctx):
        plain = replace(self, options=self.options.model_copy(update={"momentum": 0.0}))
        return right(plain, params, task, ctx)

    patch.setattr(BaselinePP, "adapt", wrong)


def whole_set(patch: pytest.MonkeyPatch) -> None:
    """All examples in each step."""

    def wrong(self, features, support, ctx: Context):
        return [(features, support)] * ctx.inner_steps

    patch.setattr(BaselinePP, "batches", wrong)


@pytest.mark.parametrize("mistake", [inner_products, no_momentum, whole_set])
def test_another_classifier_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    check_predictions(setting)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_predictions(setting)


def test_other_joint_training_is_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    check_definition(setting, setting.loop())
    inner_products(monkeypatch)
    with pytest.raises(AssertionError):
        check_definition(setting, setting.loop())


def test_neighbours_are_found_before_and_after_fine_tuning():
    case = Case("nearest_embedding", "conv4-stride", "support", 3)
    plain, tuned = make(case), make(replace(case, options=(("fine_tune", True),)))
    learner, task = tuned.algorithm, tuned.tasks.task(0)
    ctx = tuned.at(phase="test").task_ctx(0)
    fitted = learner.adapt(tuned.params, task, ctx)
    assert len(fitted) == 4
    found = [learner.predict(one, task.query.without("y"), ctx).mean for one in fitted]
    assert torch.equal(found[0], logits(plain))
    # The new head is zero: the first step moves it alone, and features only from the second on.
    assert torch.equal(found[1], found[0])
    assert float((found[-1] - found[0]).abs().max()) > 1e-6
