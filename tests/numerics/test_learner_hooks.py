"""What a learner may do otherwise than the engine's defaults: its gradient, its state, its rate.

By the engine's own trainer, in float64, for one worker and for three. Each statement is also made
of an engine with an obvious mistake, and must then fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.compute.collectives import Group, Solo
from metadist.context import Context
from metadist.errors import PluginError
from metadist.inner.inner_loop import InnerLoop
from metadist.learner import Learner, Loss
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, Task
from metadist.training.trainer import Trainer
from tests.contract.cases import Case, built
from tests.contract.setting import CPU, make
from tests.contract.training import same_bits, train
from tests.numerics.conftest import RunGroup
from tests.numerics.reference import EXACT, distance

STEPS, BATCH = 3, 5
CASE = Case(
    "maml",
    "mlp-tanh",
    "none",
    2,
    outer={"optimizer": "sgd", "lr": 0.1, "batch": BATCH},
    engine={"chunk": 2},
)
each_mode = pytest.mark.parametrize("mode", ["loop", "vmap"])


def case_of(mode: str) -> Case:
    return replace(CASE, engine={"chunk": 2, "mode": mode})


def worker_of(case: Case, learner: Learner, group: Group | None = None) -> Trainer:
    return Trainer(case.recipe, learner, group or Solo(), CPU)


def of_maml(learner: type[InnerLoop]) -> InnerLoop:
    return learner(**vars(built(CASE)))


# --- a gradient of its own ------------------------------------------------------------------------


@dataclass(frozen=True)
class Turned(InnerLoop):
    """Goes three times as far uphill as MAML goes down, and says of it what it likes."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("loss", "size")

    def gradient(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Loss]:
        gradients, loss = super().gradient(params, task, ctx)
        size = torch.stack([g.abs().max() for g in gradients.values()]).max()
        metrics = {"loss": 2 * loss.metrics["loss"], "size": size}
        return {n: -3 * g for n, g in gradients.items()}, Loss(loss.value, metrics)


def check_turned(mode: str) -> None:
    turned = replace(make(CASE), algorithm=of_maml(Turned))
    wanted = make(CASE).loop()
    chunks = [turned.loop()] if mode == "loop" else turned.vmap(3)
    for got in chunks:
        assert distance(got.gradients, {n: -3 * g for n, g in wanted.gradients.items()}) <= EXACT
        torch.testing.assert_close(
            got.metrics["loss"], 2 * wanted.metrics["loss"], rtol=EXACT, atol=0
        )
        singles = [make(CASE).only(i).loop().gradients.values() for i in range(3)]
        sizes = [max(float(g.abs().max()) for g in one) for one in singles]
        assert got.metrics["size"].tolist() == pytest.approx(sizes, rel=EXACT)


@each_mode
def test_a_gradient_of_its_own_is_taken(mode: str):
    check_turned(mode)


@each_mode
def test_an_engine_that_takes_the_loss_is_noticed(mode: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Turned, "gradient", Learner.gradient)
    with pytest.raises((AssertionError, PluginError)):
        check_turned(mode)


@each_mode
def test_the_trainer_goes_where_it_points_and_reports_what_it_says(mode: str):
    case = case_of(mode)
    plain, turned = worker_of(case, built(case)), worker_of(case, of_maml(Turned))
    start = {n: p.clone() for n, p in plain.params.items()}
    train(plain, case, 1)
    train(turned, case, 1)
    wanted = {n: p - 3 * (plain.params[n] - p) for n, p in start.items()}
    assert distance(turned.params, wanted) <= EXACT


# --- a state that follows the parameters ----------------------------------------------------------


@dataclass(frozen=True)
class Followed(InnerLoop):
    """Keeps a target network: the parameters after each step, averaged; and its passes' loss."""

    def statistics(self, ctx: Context) -> dict[str, tuple[int, ...]]:
        return {"seen": ()}

    def initial_state(self, ctx: Context) -> dict[str, Tensor]:
        return {"target": torch.zeros(6, 2, dtype=torch.float64), "seen": torch.zeros(()).double()}

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        found = super().loss(params, task, ctx)
        pull = (params["linear1.weight"] - ctx.state["target"]).square().mean()
        statistics = {"seen": found.metrics["loss"].double()}
        return replace(found, value=found.value + pull, statistics=statistics)

    def update_state(
        self,
        state: Mapping[str, Tensor],
        means: Mapping[str, Tensor],
        new_params: Params,
        ctx: Context,
    ) -> dict[str, Tensor]:
        new = new_params["linear1.weight"].detach()
        return {"target": 0.5 * state["target"] + 0.5 * new, "seen": means["seen"]}


@dataclass(frozen=True)
class Copied(Followed):
    """Keeps the parameters as they were after every other step."""

    def update_state(
        self,
        state: Mapping[str, Tensor],
        means: Mapping[str, Tensor],
        new_params: Params,
        ctx: Context,
    ) -> dict[str, Tensor]:
        taken = ctx.step % 2 == 0
        target = new_params["linear1.weight"] if taken else state["target"]
        return {"target": target, "seen": means["seen"]}


def test_a_copy_of_the_parameters_does_not_follow_them() -> None:
    case = case_of("loop")
    alone = train(worker_of(case, of_maml(Copied)), case, 1)
    first = alone.params["linear1.weight"].clone()
    train(alone, case, 2)
    assert torch.equal(alone.learner_state["target"], first)
    assert not torch.equal(alone.params["linear1.weight"], first)


def check_followed(mode: str, run_group: RunGroup) -> None:
    case = case_of(mode)
    alone, target = worker_of(case, of_maml(Followed)), torch.zeros(6, 2).double()
    for step in range(STEPS):
        train(alone, case, step + 1)
        target = 0.5 * target + 0.5 * alone.params["linear1.weight"]
        assert torch.equal(alone.learner_state["target"], target)
        assert float(alone.learner_state["seen"]) > 0

    def work(group: Group) -> Trainer:
        return train(worker_of(case, of_maml(Followed), group), case, STEPS)

    for worker in run_group(3, work):
        assert same_bits(worker.state(), alone.state())


@each_mode
def test_a_state_is_told_the_new_parameters(mode: str, run_group: RunGroup):
    check_followed(mode, run_group)


def test_old_parameters_are_noticed(run_group: RunGroup, monkeypatch: pytest.MonkeyPatch):
    right, before = Followed.update_state, dict[str, Tensor]()

    def late(self: Followed, state: Any, means: Any, new_params: Params, ctx: Context) -> Any:
        old = dict(before) or {n: torch.zeros_like(p) for n, p in new_params.items()}
        before.update({n: p.clone() for n, p in new_params.items()})
        return right(self, state, means, old, ctx)

    monkeypatch.setattr(Followed, "update_state", late)
    with pytest.raises(AssertionError):
        check_followed("loop", run_group)


# --- a rate that changes --------------------------------------------------------------------------


def rates(case: Case, **inner: Any) -> Recipe:
    sections = case.recipe.model_dump()
    return Recipe.model_validate({**sections, "inner": sections["inner"] | inner})


def train_by(recipe: Recipe, case: Case, steps: int, state: Any = None) -> Trainer:
    worker = Trainer(recipe, built(case), Solo(), CPU)
    if state is not None:
        worker.restore(state)
    return train(worker, case, steps)


@each_mode
def test_a_rate_that_changes_between_steps_is_the_rate_of_the_steps_behind_it(mode: str):
    case = case_of(mode)
    lr = case.network.lr
    changed = train_by(rates(case, lr_changes=[[2, 0.3]]), case, 4).state()
    first = train_by(rates(case, lr=lr), case, 2).state()
    assert same_bits(train_by(rates(case, lr=0.3), case, 4, first).state(), changed)
    for other in (rates(case, lr=lr), rates(case, lr=0.3), rates(case, lr_changes=[[1, 0.3]])):
        assert not same_bits(train_by(other, case, 4).state(), changed)


@each_mode
def test_a_rate_that_changes_is_the_same_for_three_workers(mode: str, run_group: RunGroup):
    case = case_of(mode)
    recipe = rates(case, lr_changes=[[1, 0.3]])
    alone = train_by(recipe, case, 3).state()

    def work(group: Group) -> Trainer:
        return train(Trainer(recipe, built(case), group, CPU), case, 3)

    assert all(same_bits(worker.state(), alone) for worker in run_group(3, work))


def test_a_rate_that_stays_is_noticed(monkeypatch: pytest.MonkeyPatch):
    lr = CASE.network.lr
    monkeypatch.setattr("metadist.compute.learners.inner_lr", lambda recipe, done: lr)
    with pytest.raises(AssertionError):
        test_a_rate_that_changes_between_steps_is_the_rate_of_the_steps_behind_it("loop")
