"""What each normalisation mode uses: batch, support set, running statistics, nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from metadist.backbones._norm import Norm, Statistics, moments, normalise
from metadist.compute.collectives import Solo
from metadist.compute.learners import build, context
from metadist.compute.order_free_sum import Layout, reduce_step
from metadist.compute.strategies import Loop
from metadist.context import Context, NormMode
from metadist.inner.inner_loop import InnerLoop
from metadist.keys import Key
from metadist.recipe.schema import Recipe
from metadist.tasks import Examples, Params, Phase, Task, TaskBatch, TaskShape
from tests.contract.setting import episode_of
from tests.numerics.reference import EXACT, Moments, Net, Reference, cross_entropy, leaves

TASKS, WAYS, TRAINED, LR = 2, 3, 2, 0.05
IMAGE = (1, 16, 16)
LAYERS = [f"norm{i}" for i in range(1, 5)]
NORMS: tuple[NormMode, ...] = get_args(NormMode)


def make(norm: NormMode, dtype: str = "float64", **inner: Any) -> tuple[InnerLoop, Recipe]:
    recipe = Recipe.model_validate(
        {
            "data": {"dataset": "none"},
            "model": {"name": "conv4", "norm": norm, "filters": 4, "affine": "scale_shift"},
            "algorithm": {"name": "maml", "adapt_norm": True},
            "inner": {"lr": LR, "steps": TRAINED, **inner},
            "engine": {"dtype": dtype},
        }
    )
    algorithm = build(recipe, TaskShape(IMAGE, WAYS, WAYS))
    assert isinstance(algorithm, InnerLoop)
    return algorithm, recipe


def parameters(algorithm: InnerLoop) -> Params:
    key = Key.of("norm")
    return {
        name: p.double() + 0.1 * key.fold(name).normal(p.shape, torch.float64)
        for name, p in algorithm.init(key).items()
    }


def tasks() -> TaskBatch:
    key = Key.of("tasks")
    columns: Params = {}
    for name, copies in (("support", 2), ("query", 3)):
        x = key.fold(name).uniform((TASKS, WAYS * copies, *IMAGE), torch.float64)
        columns[f"{name}_x"] = x
        columns[f"{name}_y"] = torch.arange(WAYS).repeat_interleave(copies).repeat(TASKS, 1)
    return TaskBatch(tuple(range(TASKS)), columns)


def at(recipe: Recipe, phase: Phase, state: Mapping[str, Tensor], steps: int = TRAINED) -> Context:
    return replace(context(recipe, phase, 0), state=state, inner_steps=steps)


def uneven_state() -> dict[str, Tensor]:
    """Running statistics whose rows all differ."""
    state = {}
    for layer in LAYERS:
        key = Key.of("state", layer)
        state[f"{layer}.mean"] = key.fold("mean").normal((TRAINED + 1, 4), torch.float64)
        state[f"{layer}.variance"] = 0.5 + key.fold("v").uniform((TRAINED + 1, 4), torch.float64)
    return state


def predictions(
    norm: NormMode, phase: Phase, x: Tensor, state: Mapping[str, Tensor], steps: int = TRAINED
) -> list[Tensor]:
    """Outputs for ``x`` after every adaptation step on the first task's support set."""
    algorithm, recipe = make(norm)
    ctx = at(recipe, phase, state, steps)
    fitted = algorithm.adapt(parameters(algorithm), tasks().task(0).view(frozenset()), ctx)
    return [algorithm.predict(one, Examples(x), ctx).mean.detach() for one in fitted]


def rows(state: Mapping[str, Tensor], row: int) -> Moments:
    return {
        layer: (state[f"{layer}.mean"][row], state[f"{layer}.variance"][row]) for layer in LAYERS
    }


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= EXACT * b.norm())


# --- one layer ------------------------------------------------------------------------------------


def test_one_layer():
    key = Key.of("layer")
    x = 3 + 2 * key.fold("x").normal((5, 3, 4, 4), torch.float64)
    scale, shift = (key.fold(n).normal((3,), torch.float64) for n in ("scale", "shift"))
    shaped = {"scale": scale.reshape(1, 3, 1, 1), "shift": shift.reshape(1, 3, 1, 1)}
    flat = x.movedim(1, 0).reshape(3, -1)
    mean, variance = flat.mean(1), flat.var(1, correction=0)
    centred = (x - mean.reshape(1, 3, 1, 1)) / (variance + 1e-3).sqrt().reshape(1, 3, 1, 1)
    torch.testing.assert_close(moments(x), (mean, variance), rtol=1e-12, atol=1e-12)

    recorded: Statistics = {}
    got = normalise(x, "a", scale, shift, Norm("batch", record=True), recorded)
    wanted = centred * shaped["scale"] + shaped["shift"]
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(recorded["a"], (mean, variance), rtol=1e-12, atol=1e-12)

    silent: Statistics = {}
    torch.testing.assert_close(normalise(x, "a", None, None, Norm("batch"), silent), centred)
    got = normalise(x, "a", scale, shift, Norm("off"), silent)
    assert torch.equal(got, x * shaped["scale"] + shaped["shift"])
    assert torch.equal(normalise(x, "a", None, None, Norm("off"), silent), x)
    given = Norm("given", statistics={"a": (mean, variance)})
    torch.testing.assert_close(normalise(x, "a", scale, shift, given, silent), wanted)
    assert silent == {}


# --- who depends on whom --------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["train", "val", "test"])
@pytest.mark.parametrize("norm", NORMS)
def test_whether_a_prediction_depends_on_the_other_queries(norm: NormMode, phase: Phase):
    queries = tasks().task(0).query.x
    together = predictions(norm, phase, queries, uneven_state())
    pair = predictions(norm, phase, queries[:2], uneven_state())
    depends = norm == "transductive" or (norm == "running" and phase == "train")
    for all_rows, two_rows in zip(together, pair, strict=True):
        assert close(all_rows[:2], two_rows) != depends


@pytest.mark.parametrize("norm", NORMS)
def test_the_order_of_queries_does_not_matter(norm: NormMode):
    queries = tasks().task(0).query.x
    order = torch.tensor([4, 2, 0, 1, 8, 3, 5, 7, 6])
    forward = predictions(norm, "test", queries, uneven_state())
    for a, b in zip(
        predictions(norm, "test", queries[order], uneven_state()), forward, strict=True
    ):
        assert close(a, b[order])


@pytest.mark.parametrize("norm", NORMS)
def test_predictions_are_those_of_the_reference(norm: NormMode):
    algorithm, _ = make(norm)
    task = tasks().task(0)
    episode = episode_of(task)
    net = Net("conv4")
    state = uneven_state()
    learner = Reference(net, cross_entropy, LR, TRAINED, 1.0, lambda name: True, norm)
    got = predictions(norm, "test", task.query.x, state)
    if norm == "running":
        phi = leaves(parameters(algorithm))
        for step in range(TRAINED + 1):
            wanted = net(phi, task.query.x, rows(state, step))[0]
            assert close(got[step], wanted.detach())
            value = cross_entropy(net(phi, task.support.x, rows(state, step))[0], task.support.y)
            parts = torch.autograd.grad(value, list(phi.values()))
            phi = leaves({n: p - LR * g for (n, p), g in zip(phi.items(), parts, strict=True)})
        return
    path = learner.path(leaves(parameters(algorithm)), episode, graph=False)
    for step, phi in enumerate(path):
        if norm == "support":
            wanted, _ = net(phi, task.query.x, net(phi, task.support.x, "batch")[1])
        else:
            wanted, _ = net(phi, task.query.x, "off" if norm == "none" else "batch")
        assert close(got[step], wanted.detach())


def test_the_modes_differ():
    queries = tasks().task(0).query.x
    finals = [predictions(norm, "test", queries, uneven_state())[-1] for norm in NORMS]
    for i, a in enumerate(finals):
        assert all(not close(a, b) for b in finals[i + 1 :])


# --- running statistics ---------------------------------------------------------------------------


def test_only_running_has_a_state():
    for norm in NORMS:
        algorithm, recipe = make(norm)
        state = algorithm.initial_state(context(recipe, "train", 0))
        if norm != "running":
            assert state == {}
            continue
        assert set(state) == {f"{layer}.{q}" for layer in LAYERS for q in ("mean", "variance")}
        for name, value in state.items():
            assert value.shape == (TRAINED + 1, 4)
            assert value.dtype == torch.float64
            assert bool((value == (0 if name.endswith("mean") else 1)).all())


@pytest.mark.parametrize("norm", ["transductive", "support", "none"])
def test_other_modes_return_no_statistics(norm: NormMode):
    algorithm, recipe = make(norm)
    loss = algorithm.loss(parameters(algorithm), tasks().task(0), at(recipe, "train", {}))
    assert loss.statistics == {}


def test_evaluation_returns_no_statistics():
    algorithm, recipe = make("running")
    ctx = at(recipe, "val", uneven_state())
    assert algorithm.loss(parameters(algorithm), tasks().task(0), ctx).statistics == {}


def recorded_moments() -> list[list[Moments]]:
    """By task and step: moments of the support pass at phi_0, ... phi_T."""
    algorithm, _ = make("running")
    net, batch = Net("conv4"), tasks()
    learner = Reference(net, cross_entropy, LR, TRAINED, 1.0, lambda name: True, "running")
    found = []
    for i in range(TASKS):
        episode = episode_of(batch.task(i))
        path = learner.path(leaves(parameters(algorithm)), episode, graph=False)
        found.append([net(phi, episode.support_x, "batch")[1] for phi in path])
    return found


def test_running_statistics_follow_the_moving_average():
    algorithm, recipe = make("running")
    params, batch = parameters(algorithm), tasks()
    state = uneven_state()
    ctx = at(recipe, "train", state)
    results = [
        Loop().chunk(algorithm, params, batch.slice(i, i + 1), [{}], ctx) for i in range(TASKS)
    ]
    shapes = {n.replace(".variance", ".square"): tuple(v.shape) for n, v in state.items()}
    layout = Layout({n: tuple(p.shape) for n, p in params.items()}, shapes, ("loss",), TASKS, 1)
    means = reduce_step(results, 0, layout, Solo(), torch.device("cpu")).statistics
    before = {n: v.clone() for n, v in state.items()}
    after = algorithm.update_state(state, means, params, ctx)
    assert all(torch.equal(v, before[n]) for n, v in state.items()), "the old state was changed"

    found = recorded_moments()
    for layer in LAYERS:
        for step in range(TRAINED + 1):
            pairs = [task[step][layer] for task in found]
            mean = torch.stack([m for m, _ in pairs]).mean(0).detach()
            square = torch.stack([v + m * m for m, v in pairs]).mean(0).detach()
            old = rows(before, step)[layer]
            new = rows(after, step)[layer]
            assert close(new[0], 0.9 * old[0] + 0.1 * mean)
            assert close(new[1], 0.9 * old[1] + 0.1 * (square - mean * mean))


def test_averaged_moments_are_the_moments_of_all_tasks_together():
    algorithm, recipe = make("running")
    params, batch = parameters(algorithm), tasks()
    ctx = at(recipe, "train", uneven_state())
    result = Loop().chunk(algorithm, params, batch, [{}] * TASKS, ctx)
    mean = result.statistics["norm1.mean"][0] / TASKS
    variance = result.statistics["norm1.square"][0] / TASKS - mean * mean
    pooled = batch.tensors["support_x"].reshape(-1, *IMAGE)
    entering = torch.conv2d(pooled, params["conv1.weight"], stride=2, padding=1)
    flat = entering.movedim(1, 0).reshape(4, -1)
    assert close(mean, flat.mean(1))
    assert close(variance, flat.var(1, correction=0))


def test_a_variance_never_falls_below_zero():
    algorithm, recipe = make("running")
    state = algorithm.initial_state(context(recipe, "train", 0))
    means = {}
    for layer in LAYERS:
        means[f"{layer}.mean"] = torch.full((TRAINED + 1, 4), 1.0, dtype=torch.float64)
        means[f"{layer}.square"] = torch.full((TRAINED + 1, 4), 1 - 1e-9, dtype=torch.float64)
    after = algorithm.update_state(state, means, {}, context(recipe, "train", 0))
    for layer in LAYERS:
        assert torch.allclose(after[f"{layer}.variance"], torch.full((3, 4), 0.9).double())


def test_the_statistics_do_not_depend_on_the_queries():
    algorithm, recipe = make("running")
    ctx = at(recipe, "train", uneven_state())
    task = tasks().task(0)
    other = Task(task.support, task.query.with_x(task.query.x + 1))
    params = parameters(algorithm)
    first, second = (algorithm.loss(params, t, ctx).statistics for t in (task, other))
    assert first
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_training_does_not_use_the_running_statistics():
    algorithm, recipe = make("running")
    params, task = parameters(algorithm), tasks().task(0)
    initial = algorithm.initial_state(context(recipe, "train", 0))
    values = [
        algorithm.loss(params, task, at(recipe, "train", state)).value
        for state in (initial, uneven_state())
    ]
    assert torch.equal(values[0], values[1])


@pytest.mark.parametrize("row", range(TRAINED + 1))
def test_each_step_uses_its_own_row_and_later_steps_the_last(row: int):
    queries = tasks().task(0).query.x
    steps = TRAINED + 2
    state = uneven_state()
    other = {n: v.clone() for n, v in state.items()}
    for value in other.values():
        value[row] *= 1.1
    before = predictions("running", "test", queries, state, steps)
    after = predictions("running", "test", queries, other, steps)
    assert len(before) == steps + 1
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    # A row decides the predictions of its step and, through adaptation, those of all later ones.
    assert same == [step < row for step in range(steps + 1)]


def test_steps_beyond_the_trained_number_use_the_last_row():
    algorithm, recipe = make("running")
    state, task, net = uneven_state(), tasks().task(0), Net("conv4")
    steps = TRAINED + 2
    got = predictions("running", "test", task.query.x, state, steps)
    ctx = at(recipe, "test", state, steps)
    fitted = algorithm.adapt(parameters(algorithm), task, ctx)
    for step in range(TRAINED, steps + 1):
        wanted = net(fitted[step].params, task.query.x, rows(state, TRAINED))[0]
        assert close(got[step], wanted.detach())
        assert not close(got[step], net(fitted[step].params, task.query.x, rows(state, 0))[0])


def test_evaluation_in_float32_keeps_its_type():
    algorithm, recipe = make("running", "float32")
    task = tasks().task(0)
    params = {n: p.float() for n, p in parameters(algorithm).items()}
    ctx = at(recipe, "test", uneven_state())
    support, query = (part.with_x(part.x.float()) for part in (task.support, task.query))
    fitted = algorithm.adapt(params, Task(support), ctx)
    outputs = algorithm.predict(fitted[-1], query, ctx).mean
    assert outputs.dtype == torch.float32
    exact = predictions("running", "test", task.query.x, uneven_state())[-1]
    torch.testing.assert_close(outputs.double(), exact, rtol=1e-3, atol=1e-3)
