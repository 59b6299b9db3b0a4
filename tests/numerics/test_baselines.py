"""Baselines: what is near, running statistics without an inner loop, what each of them knows.

Predictions and joint gradients stand in ``baselines_reference.py`` and are compared by the contract
tests in every other normalisation mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metadist.algorithms.finetune import DecayedSGD
from metadist.compute.learners import build, context
from metadist.compute.strategies import Loop
from metadist.context import Context, NormMode
from metadist.errors import RecipeError
from metadist.inner.adam import Adam
from metadist.inner.inner_optimizer import InnerOptimizer, InnerStep
from metadist.inner.sgd import SGD
from metadist.inner.similarity import class_means, cosine, cosine_logits, nearest_logits, similarity
from metadist.keys import Key
from metadist.learner import Learner
from metadist.recipe.schema import Recipe
from metadist.tasks import Examples, Params, Phase, Task, TaskBatch, TaskShape
from tests.numerics.baselines_reference import nearest
from tests.numerics.reference import CLOSED_FORM, EXACT, Net, leaves

WAYS, CLASSES, STEPS, LR = 3, 7, 2, 0.05
IMAGES = TaskShape((1, 16, 16), WAYS, WAYS, classes=CLASSES)
CURVES = TaskShape((1,), 1, latent=2)
LAYERS = [f"norm{i}" for i in range(1, 5)]
CONV = {"name": "conv4", "filters": 4, "affine": "scale_shift"}


def recipe_of(algorithm: str, model: Mapping[str, Any], norm: NormMode, **options: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "data": {"dataset": "none"},
            "model": {"norm": norm, **model},
            "algorithm": {"name": algorithm, **options},
            "inner": {"lr": LR, "steps": STEPS},
            "engine": {"dtype": "float64"},
        }
    )


def images(algorithm: str, norm: NormMode = "running", **options: Any) -> tuple[Learner, Recipe]:
    recipe = recipe_of(algorithm, CONV, norm, **options)
    return build(recipe, IMAGES), recipe


def curves(algorithm: str) -> tuple[Learner, Recipe]:
    recipe = recipe_of(algorithm, {"name": "mlp", "hidden": 6, "activation": "tanh"}, "none")
    return build(recipe, CURVES), recipe


def fresh(learner: Learner) -> Params:
    key = Key.of("baselines")
    return {
        n: p.double() + 0.1 * key.fold(n).normal(p.shape, torch.float64)
        for n, p in learner.init(key).items()
    }


def image_task(name: str = "task") -> Task:
    key = Key.of(name)
    y = torch.arange(WAYS).repeat(2)
    x = [key.fold(part).uniform((len(y), *IMAGES.inputs), torch.float64) for part in "sq"]
    return Task(Examples(x[0], y), Examples(x[1], y))


def curve_task() -> Task:
    key = Key.of("curve")
    x = [key.fold(part).normal((5, 1), torch.float64) for part in "sq"]
    return Task(Examples(x[0], x[0].sin()), Examples(x[1], x[1].sin()))


def told(task: Task, **info: Tensor) -> Task:
    """The task with what else is known of it."""
    return Task(task.support, task.query, info=info)


def at(
    recipe: Recipe,
    phase: Phase,
    state: Mapping[str, Tensor] | None = None,
    noise: Mapping[str, Tensor] | None = None,
    steps: int = STEPS,
) -> Context:
    ctx = replace(context(recipe, phase, 0), state=state or {}, inner_steps=steps)
    return ctx.for_task(noise or {})


def outputs(learner: Learner, params: Params, task: Task, ctx: Context) -> list[Tensor]:
    fitted = learner.adapt(params, task.view(learner.needs), ctx)
    return [learner.predict(one, task.query.without("y"), ctx).mean.detach() for one in fitted]


def near(a: Tensor, b: Tensor, rtol: float = EXACT) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


CLASS_IDS = torch.tensor([5, 0, 3])

# --- similarity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", ["nearest", "mean"])
def test_what_is_near(metric: Any, rule: str):
    key = Key.of("near")
    query, support = (key.fold(n).normal((6, 5), torch.float64) for n in "qs")
    labels = torch.tensor([2, 0, 1, 1, 2, 2])
    support[3] = 0.0  # a dead embedding is near to nothing by cosine
    if rule == "mean":
        got = similarity(metric, query, class_means(support, labels, WAYS))
    else:
        got = nearest_logits(similarity(metric, query, support), labels, WAYS)
    options = {"metric": metric, "rule": rule}
    wanted = nearest(options, query.numpy(), support.numpy(), labels.numpy())
    near(got, torch.from_numpy(wanted), CLOSED_FORM)


def test_cosine_logits_are_weighted_labels():
    key = Key.of("labels")
    query, support = (key.fold(n).normal((6, 5), torch.float64) for n in "qs")
    labels = torch.tensor([2, 0, 1, 1, 2, 2])
    weights = cosine(query, support)
    wanted = torch.stack([weights[:, labels == way].mean(1) for way in range(WAYS)], 1)
    near(cosine_logits(query, support, labels, WAYS), wanted, CLOSED_FORM)


def test_near_rows_are_told_apart_by_their_last_digits():
    a = torch.full((1, 784), 0.5)
    b = a + torch.tensor([[1e-4], [2e-4]])
    got = similarity("euclidean", a, b)
    wanted = -np.linalg.norm((a.double() - b.double()).numpy(), axis=1)
    assert got[0].tolist() == pytest.approx(wanted.tolist(), rel=1e-3)


# --- inner optimizers -----------------------------------------------------------------------------


def after(optimizer: InnerOptimizer, lr: float, steps: int = 4) -> Tensor:
    """Where an inner optimizer comes to on a quartic."""
    p = {"w": torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)}
    ctx = replace(at(recipe_of("scratch", CONV, "none"), "test"), inner_lr=lr)
    state = optimizer.start({}, p, ctx)
    for index in range(steps):
        at_p = leaves(p)
        value = (at_p["w"] ** 4).sum()
        (g,) = torch.autograd.grad(value, [at_p["w"]])
        step = InnerStep(index, {}, value.detach(), ctx)
        updates, state = optimizer.update({"w": g}, state, p, step)
        p = {"w": p["w"] + updates["w"]}
    return p["w"]


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.999), (0.5, 0.25)])
def test_adam_is_pytorchs(betas: tuple[float, float]):
    w = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=0.1, betas=betas)
    for _ in range(4):
        optimizer.zero_grad()
        (w**4).sum().backward()
        optimizer.step()
    near(after(Adam(*betas), 0.1), w.detach(), CLOSED_FORM)


def test_without_decay_it_is_plain_descent_to_the_bit():
    assert torch.equal(after(DecayedSGD(), 0.01), after(SGD(), 0.01))
    assert not torch.equal(after(DecayedSGD(decay=0.1), 0.01), after(SGD(), 0.01))
    assert torch.equal(after(DecayedSGD(others={"w": 0.02}), 0.01), after(SGD(), 0.02))


# --- joint training -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["finetune", "nearest_embedding"])
def test_labels_of_an_episode_mean_nothing_in_joint_training(algorithm: str):
    learner, recipe = images(algorithm, "transductive")
    task, params, ctx = image_task(), fresh(learner), at(recipe, "train")
    loss = learner.loss(params, told(task, class_ids=CLASS_IDS), ctx)
    order = torch.tensor([2, 0, 1])
    support, query = (part.with_y(order[part.y]) for part in (task.support, task.query))
    renamed = Task(support, query)
    right = told(renamed, class_ids=CLASS_IDS[order.argsort()])
    near(learner.loss(params, right, ctx).value, loss.value, CLOSED_FORM)
    other = learner.loss(params, told(renamed, class_ids=CLASS_IDS), ctx)
    assert abs(float(other.value - loss.value)) > 1e-3


def test_joint_accuracy_is_over_all_training_classes():
    learner, recipe = images("finetune", "none")
    task, params = told(image_task(), class_ids=CLASS_IDS), fresh(learner)
    params["head.bias"][5] += 100.0
    got = learner.loss(params, task, at(recipe, "train")).metrics["accuracy"]
    assert float(got) == pytest.approx(1 / WAYS)
    params["head.bias"][6] += 200.0
    got = learner.loss(params, task, at(recipe, "train")).metrics["accuracy"]
    assert float(got) == 0.0


def state_of_layers() -> dict[str, Tensor]:
    key = Key.of("state")
    state = {}
    for layer in LAYERS:
        state[f"{layer}.mean"] = key.fold(layer, "m").normal((1, 4), torch.float64)
        state[f"{layer}.variance"] = 0.5 + key.fold(layer, "v").uniform((1, 4), torch.float64)
    return state


@pytest.mark.parametrize("algorithm", ["finetune", "nearest_embedding"])
def test_running_statistics_are_those_of_training_passes(algorithm: str):
    learner, recipe = images(algorithm)
    task, params = image_task(), fresh(learner)
    ctx = at(recipe, "train")
    state = learner.initial_state(ctx)
    assert {n: tuple(s.shape) for n, s in state.items()} == {
        f"{layer}.{m}": (1, 4) for layer in LAYERS for m in ("mean", "variance")
    }
    sets = {"support": task.support, "query": task.query}
    columns = {f"{n}_x": s.x for n, s in sets.items()} | {f"{n}_y": s.y for n, s in sets.items()}
    columns["class_ids"] = CLASS_IDS
    batch = TaskBatch((0,), {n: column[None] for n, column in columns.items()})
    result = Loop().chunk(learner, params, batch, [{}], ctx)
    announced = learner.statistics(ctx)
    assert {n: tuple(s.shape) for n, s in result.statistics.items()} == announced
    new = learner.update_state(state, result.statistics, params, ctx)
    _, moments = Net("conv4")(params, torch.cat([task.support.x, task.query.x]), "batch")
    for layer, (mean, variance) in moments.items():
        near(new[f"{layer}.mean"][0], 0.1 * mean)
        near(new[f"{layer}.variance"][0], 0.9 + 0.1 * variance)


def test_fine_tuning_keeps_the_running_statistics_of_training():
    """Through more steps than the recipe's, of which training took none."""
    learner, recipe = images("finetune")
    task, params, state = image_task(), fresh(learner), state_of_layers()
    ctx = at(recipe, "test", state, steps=STEPS + 2)
    given = {n: (state[f"{n}.mean"][0], state[f"{n}.variance"][0]) for n in LAYERS}
    net = Net("conv4")
    phi = dict(params) | {
        "head.weight": torch.zeros(WAYS, 4, dtype=torch.float64),
        "head.bias": torch.zeros(WAYS, dtype=torch.float64),
    }
    wanted = []
    for _ in range(STEPS + 3):
        wanted.append(net(phi, task.query.x, given)[0])
        at_phi = leaves(phi)
        logits = net(at_phi, task.support.x, given)[0]
        value = torch.nn.functional.cross_entropy(logits, task.support.y)
        gradients = torch.autograd.grad(value, list(at_phi.values()))
        phi = {n: phi[n] - LR * g for n, g in zip(phi, gradients, strict=True)}
    got = outputs(learner, params, task, ctx)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        near(a, b)


def test_neighbours_are_embedded_by_the_running_statistics_of_training():
    learner, recipe = images("nearest_embedding")
    task, params, state = image_task(), fresh(learner), state_of_layers()
    given = {n: (state[f"{n}.mean"][0], state[f"{n}.variance"][0]) for n in LAYERS}
    body = dict(params) | {
        "head.weight": torch.eye(4, dtype=torch.float64),
        "head.bias": torch.zeros(4, dtype=torch.float64),
    }
    features = [Net("conv4")(body, x, given)[0].numpy() for x in (task.query.x, task.support.x)]
    options = {"metric": "cosine", "rule": "nearest"}
    wanted = nearest(options, features[0], features[1], task.support.y.numpy())
    (got,) = outputs(learner, params, task, at(recipe, "test", state))
    near(got, torch.from_numpy(wanted))


def test_validation_is_few_shot():
    learner, recipe = images("finetune", "transductive")
    task, params = image_task(), fresh(learner)
    ctx = at(recipe, "val")
    last = outputs(learner, params, task, ctx)[-1]
    assert last.shape == (len(task.query.y), WAYS)
    loss = learner.loss(params, task, ctx)
    near(loss.value, torch.nn.functional.cross_entropy(last, task.query.y))


# --- what each of them knows ----------------------------------------------------------------------


def test_a_drawn_head_is_the_tasks_own_and_the_body_the_trained_one():
    learner, recipe = images("finetune", "transductive", head_init="drawn")
    task, params, ctx = image_task(), fresh(learner), at(recipe, "test")
    assert learner.noise(Key.of("a"), at(recipe, "train")) == {}
    before = []
    for name in ("a", "a", "b"):
        noise = learner.noise(Key.of(name), ctx)
        assert set(noise) == {"head.weight", "head.bias"}
        fitted = learner.adapt(params, task, ctx.for_task(noise))
        start = fitted[0].model.params
        assert all(start[n] is p for n, p in params.items() if n not in noise)
        before.append(start["head.weight"])
    assert torch.equal(before[0], before[1])
    assert not torch.equal(before[0], before[2])


def test_the_oracle_knows_the_function_before_it_sees_it():
    learner, recipe = curves("oracle")
    task, params = curve_task(), fresh(learner)
    assert params["linear1.weight"].shape == (6, 1 + CURVES.latent)
    one, two = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 2.0], [1.0, 2.5]))
    ctx = at(recipe, "test", steps=0)
    first = outputs(learner, params, told(task, latent=one), ctx)
    assert len(first) == 1
    changed = outputs(learner, params, told(task, latent=two), ctx)
    assert float((first[0] - changed[0]).abs().min()) > 1e-4
    unseen = task.with_support(task.support.with_y(task.support.y + 1))
    again = outputs(learner, params, told(unseen, latent=one), ctx)
    assert torch.equal(again[0], first[0])


def test_the_oracle_needs_something_to_be_told():
    recipe = recipe_of("oracle", {"name": "mlp"}, "none")
    with pytest.raises(RecipeError, match="true parameters are known"):
        build(recipe, replace(CURVES, latent=0))
    for algorithm, shape, can in (
        ("oracle", IMAGES, "predicts values, the data are tasks of labels"),
        ("nearest_pixels", CURVES, "predicts labels, the data are tasks of values"),
    ):
        with pytest.raises(RecipeError, match=can):
            build(recipe_of(algorithm, {"name": "mlp"}, "none"), shape)


def test_scratch_starts_anew_in_each_task():
    learner, recipe = curves("scratch")
    assert learner.init(Key.of("a")) == {}
    task = curve_task()
    found = []
    for name in ("a", "a", "b"):
        noise = learner.noise(Key.of(name), at(recipe, "test"))
        found.append(outputs(learner, {}, task, at(recipe, "test", noise=noise))[-1])
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_running_statistics_of_scratch_are_those_of_the_support():
    found = []
    for norm in ("running", "support"):
        learner, recipe = images("scratch", norm)
        assert learner.initial_state(at(recipe, "train")) == {}
        assert learner.statistics(at(recipe, "train")) == {}
        noise = learner.noise(Key.of("a"), at(recipe, "test"))
        found.append(outputs(learner, {}, image_task(), at(recipe, "test", noise=noise)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
