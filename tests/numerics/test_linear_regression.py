"""Closed forms: MAML and first-order MAML where the meta-gradient can be written down.

With L(w; X, y) = |Xw - y|^2 / n the Hessian is H = 2 X'X / n, and T steps of size a from theta give

    phi = theta after T times  w <- w - a * 2 X'(Xw - y) / n
    meta-gradient = (I - aH)^T * 2 Xq'(Xq phi - yq) / m       first-order: without (I - aH)^T
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from metadist import algorithms, backbones, objectives
from metadist.algorithms import Parts
from metadist.backbones import Backbone, Layer, Norm, Output
from metadist.compute.strategies import ChunkResult, Loop, Vmap
from metadist.context import Context
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.sgd import SGD
from metadist.keys import Key
from metadist.learner import Learner
from metadist.tasks import Params, TaskBatch, TaskShape
from tests.contract.setting import episode_of
from tests.numerics.reference import (
    CLEARLY_OTHER,
    CLOSED_FORM,
    DEFINITIONS,
    Net,
    Reference,
    distance,
    squared_error,
    total,
    whole_distance,
)

STEP_SIZE = 0.1
DIMENSIONS, SUPPORT, QUERY, TASKS = 4, 6, 5, 3
SHAPE = TaskShape((DIMENSIONS,), 1)
Mode = Literal["loop", "vmap"]


class Linear(Backbone):
    """x @ w."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return (Layer("linear1", 1, bias=False),)

    def init(self, key: Key) -> Params:
        return {"w": key.normal((DIMENSIONS, 1))}

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        return Output(x @ params["w"], x, {}, {})


def learner(second_order: bool) -> InnerLoop:
    objective = objectives.build("regression", {}, SHAPE)
    return InnerLoop(objective, Linear(), 0, SGD(), second_order=second_order)


def context(steps: int, inner_lr: float = STEP_SIZE) -> Context:
    return Context(
        phase="train",
        step=0,
        total_steps=1,
        inner_steps=steps,
        trained_steps=steps,
        norm="none",
        inner_lr=inner_lr,
    )


def tasks() -> TaskBatch:
    key = Key.of("linear regression")

    def draw(name: str, *shape: int) -> Tensor:
        return key.fold(name).normal((TASKS, *shape), torch.float64)

    sizes = {"support": SUPPORT, "query": QUERY}
    x = {f"{name}_x": draw(f"{name}_x", size, DIMENSIONS) for name, size in sizes.items()}
    y = {f"{name}_y": draw(f"{name}_y", size, 1) for name, size in sizes.items()}
    return TaskBatch(tuple(range(TASKS)), x | y)


def theta() -> Params:
    return {"w": Key.of("theta").normal((DIMENSIONS, 1), torch.float64)}


def closed_form(w: Tensor, batch: TaskBatch, steps: int, *, second_order: bool) -> Tensor:
    summed = torch.zeros_like(w)
    for i in range(len(batch)):
        x, y, xq, yq, _ = episode_of(batch.task(i))
        hessian = 2 / SUPPORT * x.T @ x
        phi = w
        for _ in range(steps):
            phi = phi - STEP_SIZE * 2 / SUPPORT * x.T @ (x @ phi - y)
        g = 2 / QUERY * xq.T @ (xq @ phi - yq)
        if second_order:
            one = torch.eye(DIMENSIONS, dtype=torch.float64)
            g = torch.linalg.matrix_power(one - STEP_SIZE * hessian, steps) @ g
        summed += g
    return summed


def compute(algorithm: Learner, mode: Mode, batch: TaskBatch, ctx: Context) -> ChunkResult:
    noise: list[dict[str, Tensor]] = [{} for _ in range(len(batch))]
    if mode == "loop":
        return Loop().chunk(algorithm, theta(), batch, noise, ctx)
    return Vmap(len(batch)).chunk(algorithm, theta(), batch, noise, ctx)


def check(mode: Mode, steps: int, *, second_order: bool) -> None:
    batch = tasks()
    got = compute(learner(second_order), mode, batch, context(steps)).gradients
    wanted = closed_form(theta()["w"], batch, steps, second_order=second_order)
    assert distance(got, {"w": wanted}) <= CLOSED_FORM


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("second_order", [True, False], ids=["maml", "fomaml"])
def test_meta_gradient_is_the_closed_form(mode: Mode, steps: int, second_order: bool):
    check(mode, steps, second_order=second_order)


def test_the_two_closed_forms_differ():
    batch, w = tasks(), theta()["w"]
    for steps in (1, 5):
        exact = closed_form(w, batch, steps, second_order=True)
        first = closed_form(w, batch, steps, second_order=False)
        assert whole_distance({"w": first}, {"w": exact}) > CLEARLY_OTHER


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_a_dropped_graph_is_noticed(mode: Mode, monkeypatch: pytest.MonkeyPatch):
    plain = Context.grad

    def constant(self, loss, params, *, second_order=False):
        return plain(self, loss, params, second_order=False)

    monkeypatch.setattr(Context, "grad", constant)
    with pytest.raises(AssertionError):
        check(mode, 1, second_order=True)


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_a_kept_graph_is_noticed(mode: Mode, monkeypatch: pytest.MonkeyPatch):
    plain = Context.grad

    def differentiable(self, loss, params, *, second_order=False):
        return plain(self, loss, params, second_order=True)

    monkeypatch.setattr(Context, "grad", differentiable)
    with pytest.raises(AssertionError):
        check(mode, 1, second_order=False)


def test_a_missing_step_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def idle_first(self, gradients, state, adapted, step):
        lr = step.ctx.inner_lr if step.index else 0.0
        return {n: -lr * gradients[n] for n in adapted}, {}

    monkeypatch.setattr(SGD, "update", idle_first)
    with pytest.raises(AssertionError):
        check("loop", 5, second_order=True)


# --- first-order MAML on the sinusoid's network ---------------------------------------------------


def sinusoid_tasks() -> TaskBatch:
    key = Key.of("sinusoid")

    def draw(name: str, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * key.fold(name).uniform((TASKS, *shape), torch.float64)

    amplitude, phase = draw("amplitude", 0.1, 5.0, 1, 1), draw("phase", 0.0, torch.pi, 1, 1)
    x, xq = draw("x", -5.0, 5.0, 10, 1), draw("xq", -5.0, 5.0, 10, 1)
    y, yq = (amplitude * torch.sin(points - phase) for points in (x, xq))
    columns = {"support_x": x, "support_y": y, "query_x": xq, "query_y": yq}
    return TaskBatch(tuple(range(TASKS)), columns)


def named(name: str) -> tuple[Learner, Params]:
    shape = TaskShape((1,), 1)

    def network(wanted: TaskShape) -> backbones.Backbone:
        return backbones.build("mlp", {}, wanted)

    objective = objectives.build("", {}, shape)
    parts = Parts(network, shape, objective, 0.01, "mean", algorithms.options(name, {}))
    algorithm = algorithms.build(name, parts)
    return algorithm, {n: p.double() for n, p in algorithm.init(Key.of("40-40")).items()}


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_first_order_is_the_gradient_at_the_adapted_parameters(mode: Mode):
    batch, ctx = sinusoid_tasks(), replace(context(3, 0.01), norm="transductive")
    gradients = {}
    for name in ("maml", "fomaml"):
        algorithm, params = named(name)
        assert [tuple(p.shape) for p in params.values()] == [
            (40, 1), (40,), (40, 40), (40,), (1, 40), (1,),
        ]  # fmt: skip
        noise: list[dict[str, Tensor]] = [{}] * TASKS
        if mode == "loop":
            result = Loop().chunk(algorithm, params, batch, noise, ctx)
        else:
            result = Vmap(TASKS).chunk(algorithm, params, batch, noise, ctx)
        gradients[name] = result.gradients

    reference = Reference(Net("mlp"), squared_error, 0.01, 3, 1.0, lambda name: True, "none")
    for name in ("maml", "fomaml"):
        episodes = [episode_of(batch.task(i)) for i in range(TASKS)]
        parts = [
            DEFINITIONS[name](reference, named(name)[1], episode, {})[1] for episode in episodes
        ]
        assert distance(gradients[name], total(parts)) <= CLOSED_FORM
    assert whole_distance(gradients["fomaml"], gradients["maml"]) > CLEARLY_OTHER
