"""What tests of metric learners ask of them."""

from __future__ import annotations

import torch
from torch import Tensor

from metadist.keys import Key
from metadist.tasks import Examples
from tests.contract.setting import Setting
from tests.numerics.reference import CLOSED_FORM


def near(got: Tensor, wanted: Tensor) -> None:
    """Equal to a closed form's tolerance."""
    torch.testing.assert_close(got, wanted, rtol=CLOSED_FORM, atol=CLOSED_FORM)


def logits(setting: Setting, support: Examples | None = None) -> Tensor:
    """Of the queries of the first task at test, perhaps with another support set."""
    learner, task = setting.algorithm, setting.tasks.task(0)
    task = task if support is None else task.with_support(support)
    ctx = setting.at(phase="test").task_ctx(0)
    *_, fitted = learner.adapt(setting.params, task.view(learner.needs), ctx)
    return learner.predict(fitted, task.query.without("y"), ctx).mean


def reordered(support: Examples) -> Examples:
    """The same examples in another order."""
    order = Key.of("order").uniform((len(support),)).argsort()
    assert not torch.equal(order, torch.arange(len(support)))
    return support[order]


def check_symmetric(setting: Setting) -> None:
    """The order of the support set means nothing, and labels are only names."""
    support, plain = setting.tasks.task(0).support, logits(setting)
    near(logits(setting, reordered(support)), plain)
    check_names(setting)


def check_names(setting: Setting) -> None:
    """Labels are only names."""
    support, names = setting.tasks.task(0).support, torch.tensor([2, 0, 1])
    near(logits(setting, support.with_y(names[support.y]))[:, names], logits(setting))
