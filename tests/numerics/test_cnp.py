"""Conditional neural processes: what follows from their equations; mistakes make it fail.

Means and gradients stand in ``process_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from metadist import backbones
from metadist.algorithms import Parts, cnp
from metadist.algorithms.cnp import CNP
from metadist.backbones import Backbone
from metadist.errors import RecipeError
from metadist.objectives.density import Density
from metadist.tasks import Examples, Prediction, Task, TaskShape
from tests.contract.cases import Case, Options
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import near, reordered
from tests.numerics.process_reference import decoded
from tests.numerics.reference import EXACT

CASE = Case("cnp", "mlp-tanh", "none")
Mistake = Callable[[pytest.MonkeyPatch], None]


def predicted(setting: Setting, support: Examples | None = None) -> Prediction:
    """Of the queries of the first task at test, perhaps with another support set."""
    learner, task = setting.algorithm, setting.tasks.task(0)
    task = task if support is None else task.with_support(support)
    ctx = setting.at(phase="test").task_ctx(0)
    (fitted,) = learner.adapt(setting.params, task.view(learner.needs), ctx)
    return learner.predict(fitted, task.query.without("y"), ctx)


def with_density(setting: Setting) -> Setting:
    """The same with the objective that judges the scale."""
    assert isinstance(setting.algorithm, CNP)
    return replace(setting, algorithm=replace(setting.algorithm, objective=Density()))


# --- a set, not a sequence ------------------------------------------------------------------------


def check_set(setting: Setting) -> None:
    """Neither order nor repetition of the support set means anything."""
    support, plain = setting.tasks.task(0).support, predicted(setting)
    twice = support[torch.arange(len(support)).repeat(2)]
    for other in (reordered(support), twice):
        for name, tensor in predicted(setting, other).tensors().items():
            near(tensor, plain.tensors()[name])
    fewer = predicted(setting, support[torch.arange(2)])
    assert float((fewer.mean - plain.mean).abs().max()) > 1e-4


def last_of_all(patch: pytest.MonkeyPatch) -> None:
    """The last example's vector in place of the mean."""

    def wrong(self, support, ctx):
        return torch.eye(len(support), dtype=support.x.dtype)[-1]

    patch.setattr(CNP, "weights", wrong)


def summed(patch: pytest.MonkeyPatch) -> None:
    """A sum, which grows with the examples."""
    patch.setattr(CNP, "weights", lambda self, s, ctx: torch.ones(len(s), dtype=s.x.dtype))


def test_examples_are_a_set():
    check_set(make(CASE))


@pytest.mark.parametrize("mistake", [last_of_all, summed])
def test_what_is_no_mean_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_set(setting)


def test_values_that_add_exactly_have_the_same_bits_in_any_order():
    """Where no addition rounds, the mean has the same bits, and so all that follows from it."""
    setting = make(CASE)
    learner, task = setting.algorithm, setting.tasks.task(0)
    assert isinstance(learner, CNP)
    ctx = setting.at(phase="test").task_ctx(0)
    whole = torch.arange(4 * 3, dtype=torch.float64).reshape(4, 3)
    rows = torch.tensor([2, 0, 3, 1])
    support = task.support[torch.arange(4)]
    assert torch.equal(
        learner.weights(support, ctx) @ whole, learner.weights(support[rows], ctx) @ whole[rows]
    )


def test_examples_that_do_not_count_are_left_out():
    setting = make(CASE)
    support = setting.tasks.task(0).support
    kept = torch.arange(len(support)) != 1
    masked = Examples(support.x, support.y, mask=kept)
    near(predicted(setting, masked).mean, predicted(setting, support[kept.nonzero()[:, 0]]).mean)


# --- mean and scale -------------------------------------------------------------------------------


def check_density(setting: Setting) -> None:
    """The loss is the negative log-likelihood of torch's normal distribution, by a second program's
    mean and scale; its gradient is that of the loss."""
    setting = with_density(setting)
    episode = setting.episodes[0]
    mean, scale = decoded(
        setting.case.reference,
        setting.params,
        episode.query_x,
        episode.support_x,
        episode.support_y,
    )
    found = predicted(setting)
    assert found.scale is not None
    near(found.scale, scale)
    wanted = -torch.distributions.Normal(mean, scale).log_prob(episode.query_y).mean()
    near(setting.loss(setting.params), wanted)
    assert float(scale.min()) > setting.case.reference.options["least_scale"]


def variance_for_scale(patch: pytest.MonkeyPatch) -> None:
    """The square of the scale in its place."""
    right = CNP.predict

    def wrong(self, fitted, query, ctx):
        found = right(self, fitted, query, ctx)
        assert found.scale is not None
        return Prediction(found.mean, found.scale.square())

    patch.setattr(CNP, "predict", wrong)


def no_floor(patch: pytest.MonkeyPatch) -> None:
    """A scale that may be 0."""
    right = CNP.predict

    def wrong(self, fitted, query, ctx):
        found, least = right(self, fitted, query, ctx), self.options.least_scale
        assert found.scale is not None
        return Prediction(found.mean, (found.scale - least) / (1 - least))

    patch.setattr(CNP, "predict", wrong)


def test_the_scale_is_trained_by_the_likelihood():
    check_density(make(CASE))
    setting = with_density(make(CASE))
    gradients = setting.only(0).loop().gradients
    assert all(bool(g.any()) for n, g in gradients.items())


@pytest.mark.parametrize("mistake", [variance_for_scale, no_floor])
def test_another_scale_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_density(setting)


# --- how it is trained ----------------------------------------------------------------------------


def sizes(fewest: int, draws: int = 200) -> list[int]:
    """How many examples training tasks have learned from."""
    options: Options = (("fewest", fewest),)
    setting = make(replace(CASE, options=options))
    learner, support = setting.algorithm, setting.tasks.task(0).support
    assert isinstance(learner, CNP)
    found = []
    for share in (torch.arange(draws) + 0.5) / draws:
        weights = learner.weights(support, setting.ctx.for_task({"size": share.double()}))
        count = int((weights > 0).sum())
        near(weights[:count], torch.full((count,), 1 / count, dtype=torch.float64))
        found.append(count)
    return found


def test_every_number_of_examples_is_drawn_as_often():
    found = sizes(2)
    assert {size: found.count(size) for size in set(found)} == dict.fromkeys(range(2, 7), 40)
    assert set(sizes(9)) == {6}


def test_only_training_leaves_examples_out():
    setting = make(replace(CASE, options=(("fewest", 1),)))
    assert all(set(one) == {"size"} for one in setting.noise)
    assert setting.at(phase="test").noise == [{}] * len(setting)
    near(predicted(setting).mean, predicted(make(CASE)).mean)


def test_support_examples_are_predicted_in_training_alone():
    setting = make(replace(CASE, options=(("predict_support", True),)))
    plain = make(CASE)
    assert abs(float(setting.loss(setting.params) - plain.loss(plain.params))) > EXACT
    now, then = (one.at(phase="test") for one in (setting, plain))
    assert torch.equal(now.loss(now.params), then.loss(then.params))


def test_a_mask_of_either_set_is_kept():
    setting = make(replace(CASE, options=(("predict_support", True),)))
    task = setting.tasks.task(0)
    learner, kept = setting.algorithm, torch.arange(len(task.query)) != 0
    masked = Examples(task.query.x, task.query.y, mask=kept)
    rows = kept.nonzero()[:, 0]
    losses = [
        learner.loss(setting.params, Task(task.support, query), setting.task_ctx(0)).value
        for query in (masked, task.query[rows])
    ]
    near(losses[0], losses[1])


def test_a_network_that_normalises_is_refused():
    shape = CASE.network.shape

    def network(wanted: TaskShape) -> Backbone:
        return backbones.build("conv4", {}, replace(wanted, inputs=(1, 16, 16)))

    parts = Parts(
        network=network,
        shape=shape,
        objective=Density(),
        inner_lr=0.1,
        inner_loss="mean",
        options=cnp.Options(),
    )
    with pytest.raises(RecipeError, match=r"take model\.name"):
        cnp.build(parts)
