"""What an inner loop may do otherwise than MAML, against plain loops.

In float64, on the tape and under vmap. Each statement is also made of a learner with an obvious
mistake, and must then fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.inner.inner_loop import InnerLoop
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Task
from tests.contract.checks import check_differences
from tests.contract.setting import Setting
from tests.numerics import test_linear_regression as linear
from tests.numerics.hooks import (
    check_defined,
    noticed,
    plain_loop,
    scalar,
    with_learner,
)
from tests.numerics.reference import (
    CLOSED_FORM,
    EXACT,
    Episode,
    Reference,
    Tensors,
    distance,
)

# --- where the loop starts ------------------------------------------------------------------------


@dataclass(frozen=True)
class Modulated(InnerLoop):
    """The initialisation depends on the task, by a learned gate, which costs something."""

    def adapts(self, name: str) -> bool:
        return super().adapts(name) and name != "gate"

    def initial(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Tensor | None]:
        start, _ = super().initial(params, task, ctx)
        seen = (task.support.x.mean(0) @ params["gate"]).tanh()
        return {name: p * (1 + seen) for name, p in start.items()}, 0.3 * seen**2


def gated(start: Tensors, episode: Episode) -> tuple[Tensors, Tensor]:
    seen = (episode.support_x.mean(0) @ start["gate"]).tanh()
    theta = {n: p * (1 + seen) if n != "gate" else p for n, p in start.items()}
    return theta, seen


def modulated(learner: Reference, start: Tensors, episode: Episode) -> Tensor:
    theta, seen = gated(start, episode)
    adapted = replace(learner, adapted=lambda name: name != "gate")
    *_, final = adapted.path(theta, episode, graph=True)
    return learner.query_loss(final, episode) + 0.3 * seen**2


def modulating() -> Setting:
    gate = torch.tensor([0.4, -0.9], dtype=torch.float64)
    return with_learner(Modulated(**vars(plain_loop())), gate=gate)


def test_a_loop_may_start_elsewhere_at_a_price():
    setting = modulating()
    check_defined(setting, modulated)
    check_differences(setting)
    # So does what predicts.
    episode = setting.episodes[0]
    theta, _ = gated(setting.params, episode)
    wanted, _ = setting.case.reference.net(theta, episode.query_x, "off")
    torch.testing.assert_close(setting.predictions(0)[0], wanted, rtol=EXACT, atol=EXACT)


def without_price(self: Modulated, params: Params, task: Task, ctx: Context) -> Any:
    return RIGHT_START(self, params, task, ctx)[0], None


def elsewhere(self: Modulated, params: Params, task: Task, ctx: Context) -> Any:
    return InnerLoop.initial(self, params, task, ctx)[0], RIGHT_START(self, params, task, ctx)[1]


RIGHT_START = Modulated.initial


@pytest.mark.parametrize("wrong", [without_price, elsewhere])
def test_a_wrong_start_is_noticed(wrong: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Modulated, "initial", wrong)
    with noticed():
        check_defined(modulating(), modulated)


# --- gradients that are none ----------------------------------------------------------------------


@dataclass(frozen=True)
class Synthetic(InnerLoop):
    """Steps along what a learned map makes of parameters and inputs; labels are not looked at."""

    def adapts(self, name: str) -> bool:
        return super().adapts(name) and name != "map"

    def inner_gradient(
        self, adapted: Params, frozen: Params, task: Task, step: int, ctx: Context
    ) -> tuple[Params, Tensor, Statistics]:
        seen = task.support.x.square().mean()
        g = {n: (frozen["map"] * p + (step + 1) * seen).tanh() for n, p in adapted.items()}
        return g, seen, {}


def synthetic(learner: Reference, start: Tensors, episode: Episode) -> Tensor:
    phi = {n: p for n, p in start.items() if n != "map"}
    for step in range(1, learner.steps + 1):
        size = episode.support_x.square().mean()
        phi = {n: p - learner.lr * (start["map"] * p + step * size).tanh() for n, p in phi.items()}
    return learner.query_loss(phi, episode)


def synthesising() -> Setting:
    return with_learner(Synthetic(**vars(plain_loop())), map=scalar(0.8))


def test_what_stands_for_the_gradient_is_taken():
    setting = synthesising()
    check_defined(setting, synthetic)
    other = setting.tasks.tensors["support_y"] + 1.0
    blind = replace(setting, tasks=replace_column(setting, "support_y", other))
    assert distance(blind.loop().gradients, setting.loop().gradients) == 0.0


def replace_column(setting: Setting, name: str, column: Tensor) -> Any:
    return replace(setting.tasks, tensors={**setting.tasks.tensors, name: column})


def test_a_constant_that_stands_for_the_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch):
    right = Synthetic.inner_gradient

    def constant(self, adapted, frozen, task, step, ctx):
        g, loss, statistics = right(self, adapted, frozen, task, step, ctx)
        return {name: value.detach() for name, value in g.items()}, loss, statistics

    monkeypatch.setattr(Synthetic, "inner_gradient", constant)
    with noticed():
        check_defined(synthesising(), synthetic)


# --- gradients that a network knows ---------------------------------------------------------------


class Closed(linear.Linear):
    """A linear map that knows the gradient of its squared error."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], float]] = []

    def loss_gradient(
        self,
        params: Params,
        wrt: tuple[str, ...],
        examples: Examples,
        norm: Norm,
        objective: Objective,
        scale: float,
    ) -> tuple[Tensor, Params, Statistics] | None:
        assert objective.fused == "squared_error"
        self.asked.append((wrt, scale))
        x, rest = examples.x, examples.x @ params["w"] - examples.y
        return scale * rest.square().mean(), {"w": 2 * scale / len(x) * x.T @ rest}, {}


class Doubled(Closed):
    """The mistake: twice the gradient."""

    def loss_gradient(self, *given: Any, **more: Any) -> tuple[Tensor, Params, Statistics] | None:
        found = super().loss_gradient(*given, **more)
        assert found
        return found[0], {name: 2 * g for name, g in found[1].items()}, found[2]


class Constant(Closed):
    """The mistake: a gradient that cannot be differentiated."""

    def loss_gradient(self, *given: Any, **more: Any) -> tuple[Tensor, Params, Statistics] | None:
        found = super().loss_gradient(*given, **more)
        assert found
        return found[0], {name: g.detach() for name, g in found[1].items()}, found[2]


def check_fused(mode: linear.Mode, steps: int, closed: Closed, *, second_order: bool) -> None:
    """With what the network knows the meta-gradient is what the tape finds, and the closed form."""
    batch, ctx = linear.tasks(), linear.context(steps)
    taped = linear.learner(second_order)
    known = replace(taped, backbone=closed)
    got = linear.compute(known, mode, batch, ctx)
    wanted = linear.compute(taped, mode, batch, ctx)
    assert distance(got.gradients, wanted.gradients) <= CLOSED_FORM
    torch.testing.assert_close(got.metrics["loss"], wanted.metrics["loss"], rtol=1e-12, atol=0)
    form = linear.closed_form(linear.theta()["w"], batch, steps, second_order=second_order)
    assert distance(got.gradients, {"w": form}) <= CLOSED_FORM
    # Several tasks at once are the tape's: what a network knows need not go under ``vmap``.
    times = 0 if mode == "vmap" else steps * len(batch)
    assert closed.asked == [(("w",), 1)] * times


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
def test_what_the_network_knows_is_used(mode: linear.Mode, steps: int, second_order: bool):
    check_fused(mode, steps, Closed(), second_order=second_order)


@pytest.mark.parametrize("wrong", [Doubled, Constant])
def test_a_wrong_gradient_of_the_network_is_noticed(wrong: type[Closed]):
    with noticed():
        check_fused("loop", 3, wrong(), second_order=True)


def test_a_network_that_is_asked_for_more_than_the_mean_is_told_so():
    task = linear.tasks().task(0)
    summed = replace(linear.learner(second_order=True), ways=3, support_reduction="sum_over_ways")
    closed = Closed()
    got, wanted = (
        loop.adapt(linear.theta(), task, linear.context(2))[-1].params
        for loop in (replace(summed, backbone=closed), summed)
    )
    assert distance(detached(got), detached(wanted)) <= CLOSED_FORM
    assert [scale for _, scale in closed.asked] == [3, 3]
    plain = linear.learner(second_order=True).adapt(linear.theta(), task, linear.context(2))
    assert distance(detached(plain[-1].params), detached(wanted)) > EXACT


def detached(params: Mapping[str, Tensor]) -> Tensors:
    return {name: p.detach() for name, p in params.items()}
