"""MAML++, ANIL, NIL and MAML with an input bias against MAML and against what their papers say.

In float64. Each statement is also made of a learner with an obvious mistake, and must then fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiers import one_in
from torch import Tensor

from metadist import algorithms
from metadist.algorithms.mamlpp import MAMLPlusPlus, PerStepSGD, multi_step_weights
from metadist.compute.strategies import ChunkResult
from metadist.context import NormMode
from metadist.errors import RecipeError
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.inner.inner_optimizer import InnerStep
from metadist.keys import Key
from metadist.learner import Learner
from metadist.tasks import Params
from tests.contract.cases import Case, Options, built
from tests.contract.checks import check_definition
from tests.contract.setting import Setting, make, of_tasks, synthetic_episodes, tasks_of
from tests.numerics import variants_reference as reference
from tests.numerics.reference import (
    CLOSED_FORM,
    EXACT,
    OTHER,
    derivative,
    distance,
    leaves,
    whole_distance,
)

TASKS = 7
OFF: Options = (("multi_step", False), ("learned_step_sizes", False), ("per_step_norm", False))
NETWORKS: dict[str, NormMode] = {
    "mlp-tanh": "none",
    "conv4-stride": "transductive",
    "conv4-pool": "support",
}


def seven(case: Case, algorithm: Learner | None = None) -> Setting:
    """Seven tasks, with all parameters away from where they start."""
    one = make(case)
    algorithm = algorithm or one.algorithm
    episodes = synthetic_episodes(case.network.shape, Key.of("variants"), TASKS)
    tasks = tasks_of(algorithm, episodes, torch.float64)
    return of_tasks(case, algorithm, one.params, tasks, one.ctx)


def same(a: ChunkResult, b: ChunkResult) -> bool:
    """Whether losses and gradients are equal to the last bit."""
    return (
        list(a.gradients) == list(b.gradients)
        and all(torch.equal(g, b.gradients[n]) for n, g in a.gradients.items())
        and all(torch.equal(m, b.metrics[n]) for n, m in a.metrics.items())
    )


# --- switched off, each is MAML -------------------------------------------------------------------


def off(name: str, model: str) -> InnerLoop:
    """A variant with everything off that makes it one."""
    options = {"mamlpp": OFF, "taml": (("weight", 0.0),)}.get(name, ())
    learner = built(Case(name, model, NETWORKS[model], 3, options))
    assert isinstance(learner, InnerLoop)
    if name == "anil":
        every = frozenset(learner.init(Key.of("names")))
        learner = replace(learner, only=every)
    return learner


@pytest.mark.parametrize("model", one_in(3, NETWORKS))
@pytest.mark.parametrize("name", ["mamlpp", "anil", "taml"])
def test_switched_off_it_is_maml_to_the_bit(name: str, model: str):
    plain = seven(Case("maml", model, NETWORKS[model], 3))
    variant = seven(plain.case, off(name, model))
    assert not variant.algorithm.step_scalar_names
    key = Key.of("fresh")
    fresh, wanted = variant.algorithm.init(key), plain.algorithm.init(key)
    assert list(fresh) == list(wanted)
    assert all(torch.equal(p, wanted[n]) for n, p in fresh.items())
    assert same(variant.loop(), plain.loop())
    assert same(variant.vmap(TASKS)[0], plain.vmap(TASKS)[0])


@pytest.mark.parametrize("name", ["mamlpp", "anil", "taml"])
def test_a_dropped_graph_is_noticed(name: str):
    plain = seven(Case("maml", "mlp-tanh", "none", 3))
    wrong = seven(plain.case, replace(off(name, "mlp-tanh"), second_order=False))
    assert not same(wrong.loop(), plain.loop())
    assert not same(wrong.vmap(TASKS)[0], plain.vmap(TASKS)[0])


# --- MAML++ ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("epochs", [1, 10, 100])
def test_multi_step_weights(steps: int, epochs: int):
    assert list(multi_step_weights(steps, 0, epochs).values()) == [1 / steps] * steps
    for epoch in range(epochs):
        weights = multi_step_weights(steps, epoch, epochs)
        assert list(weights) == list(range(1, steps + 1))
        assert abs(sum(weights.values()) - 1) <= CLOSED_FORM
        wanted = reference.multi_step_weights(steps, epoch, epochs)
        assert list(weights.values()) == pytest.approx(wanted, rel=CLOSED_FORM)
    if epochs == 100 and steps > 1:
        # In the last epochs early steps keep what they must.
        assert weights[1] == 0.03 / steps
        assert weights[steps] == pytest.approx(1 - 0.03 * (steps - 1) / steps, rel=CLOSED_FORM)


def test_multi_step_losses_end_with_their_epochs():
    learner = built(Case("mamlpp", "mlp-tanh", "none", 3))
    assert isinstance(learner, MAMLPlusPlus)
    ctx = make(Case("mamlpp", "mlp-tanh", "none", 3)).ctx
    assert set(learner.step_weights(replace(ctx, step=499))) == {1, 2, 3}
    assert learner.step_weights(replace(ctx, step=0)) == learner.step_weights(
        replace(ctx, step=499)
    )
    assert learner.step_weights(replace(ctx, step=500)) != learner.step_weights(ctx)
    assert set(learner.step_weights(replace(ctx, step=4999))) == {1, 2, 3}
    assert learner.step_weights(replace(ctx, step=5000)) == {3: 1.0}
    assert learner.step_weights(replace(ctx, phase="test", inner_steps=5)) == {5: 1.0}
    assert learner.step_weights(replace(ctx, inner_steps=0)) == {0: 1.0}


def test_the_reported_loss_is_that_of_the_last_step():
    plain = seven(Case("maml", "mlp-tanh", "none", 3))
    several = seven(Case("mamlpp", "mlp-tanh", "none", 3, OFF[1:]))
    assert torch.equal(several.looped.metrics["loss"], plain.looped.metrics["loss"])
    assert whole_distance(several.looped.gradients, plain.looped.gradients) > OTHER


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_beyond_training_take_the_last_step_size(steps: int):
    setting = make(Case("mamlpp", "mlp-tanh", "none", steps))
    longer = setting.at(phase="test", inner_steps=5)
    fitted = longer.adapted(0)
    # The same with as many step sizes as steps, the last one again and again.
    learner = longer.algorithm
    assert isinstance(learner, MAMLPlusPlus)
    assert isinstance(learner.optimizer, PerStepSGD)
    rows = [min(step, steps - 1) for step in range(5)]
    spelt_out = {n: p[rows] if n.endswith(".step_sizes") else p for n, p in longer.params.items()}
    other = replace(learner, optimizer=replace(learner.optimizer, steps=5))
    wanted = other.adapt(spelt_out, longer.tasks.task(0), longer.task_ctx(0))
    for a, b in zip(fitted, wanted, strict=True):
        assert all(torch.equal(a.params[n], p) for n, p in b.params.items() if "rule." not in n)
    assert learner.learned_quantities(longer.params)["step_size"].keys() == {
        f"linear{i}.{p}" for i in (1, 2, 3) for p in ("weight", "bias")
    }
    assert all(
        len(a) == steps for a in learner.learned_quantities(longer.params)["step_size"].values()
    )


def test_fresh_step_sizes_and_rows_give_maml():
    """With the step sizes and the rows of scales and shifts as they start, nothing has changed."""
    case = Case("maml", "conv4-stride", "transductive", 3)
    plain = make(case)
    learner = built(Case("mamlpp", "conv4-stride", "transductive", 3, OFF[:1]))
    fresh = {n: p.double() for n, p in learner.init(Key.of("contract", case.model)).items()}
    lr = case.network.lr
    params = {
        n: torch.full_like(p, lr)
        if n.endswith(".step_sizes")
        else (plain.params[n].repeat(3, 1) if "norm" in n else plain.params[n])
        for n, p in fresh.items()
    }
    assert all(p.shape == fresh[n].shape for n, p in params.items())
    variant = of_tasks(case, learner, params, plain.tasks, plain.ctx)
    assert torch.equal(variant.looped.metrics["loss"], plain.looped.metrics["loss"])
    summed = {
        n: variant.looped.gradients[n].sum(0) if "norm" in n else variant.looped.gradients[n]
        for n in plain.looped.gradients
    }
    assert distance(summed, plain.looped.gradients) <= EXACT


def later_row(self: MAMLPlusPlus, fitted: AdaptedModel, ctx: Any) -> Any:
    return InnerLoop.query_norm(self, fitted, ctx)


def even_weights(self: MAMLPlusPlus, ctx: Any) -> dict[int, float]:
    return dict.fromkeys(range(1, ctx.inner_steps + 1), 1 / ctx.inner_steps)


def first_size_only(
    self: PerStepSGD, gradients: Params, state: Params, adapted: Params, step: InnerStep
) -> Any:
    sizes = {n: step.meta[f"{n}.step_sizes"][0] for n in adapted}
    return {n: -sizes[n] * gradients[n] for n in adapted}, {}


@pytest.mark.parametrize(
    ("what", "method", "wrong"),
    [
        (MAMLPlusPlus, "query_norm", later_row),
        (MAMLPlusPlus, "step_weights", even_weights),
        (PerStepSGD, "update", first_size_only),
    ],
)
def test_a_wrong_ingredient_is_noticed(
    what: type, method: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    setting = make(Case("mamlpp", "conv4-stride", "transductive", 3, outer_step=2000))
    check_definition(setting, setting.loop())
    monkeypatch.setattr(what, method, wrong)
    with pytest.raises(AssertionError):
        check_definition(setting, setting.loop())


def test_first_order_has_nothing_to_anneal():
    with pytest.raises(RecipeError, match=r"must be 0 with it, got 3"):
        algorithms.options("mamlpp", {"first_order": True, "derivative_annealing_epochs": 3})


# --- ANIL and NIL ---------------------------------------------------------------------------------


def shared(setting: Setting) -> set[str]:
    """Parameters that are the same object in theta and phi."""
    return {n for n, p in setting.adapted(0)[-1].params.items() if p is setting.params[n]}


@pytest.mark.parametrize("model", ["mlp-tanh", "conv4-stride"])
def test_the_body_of_phi_is_that_of_theta(model: str):
    setting = make(Case("anil", model, NETWORKS[model], 3))
    head = set(setting.algorithm.backbone.layers[-1].parameters)  # type: ignore[attr-defined]
    assert len(head) == 2
    assert shared(setting) == set(setting.params) - head
    body = make(Case("maml", model, NETWORKS[model], 3))
    assert shared(body) != set(setting.params) - head  # MAML's is not


def test_anil_leaves_what_enters_the_head_as_it_was():
    setting = make(Case("anil", "conv4-stride", "none", 3))
    query, ctx = setting.tasks.task(0).query, setting.task_ctx(0)
    fitted = setting.adapted(0)
    before, after = (setting.algorithm.activations(f, query, ctx) for f in fitted[::3])
    assert torch.equal(before["conv4"], after["conv4"])
    assert not torch.equal(before["head"], after["head"])


def test_the_body_learns_through_the_heads_inner_gradient():
    """Against ANIL whose inner gradient is a constant: the body's gradient is another."""
    exact, first = (
        make(Case("anil", "mlp-tanh", "none", 3, o)) for o in ((), (("first_order", True),))
    )
    body = [n for n in exact.params if not n.startswith("linear3")]
    a, b = ({n: s.looped.gradients[n] for n in body} for s in (exact, first))
    assert whole_distance(a, b) > OTHER


def test_nil_is_trained_as_anil():
    anil, nil = (make(Case(name, "conv4-stride", "transductive", 3)) for name in ("anil", "nil"))
    assert same(nil.loop(), anil.loop())


@pytest.mark.parametrize("compare", ["means", "examples"])
@pytest.mark.parametrize("phase", ["val", "test"])
def test_nil_has_neither_head_nor_steps(phase: Any, compare: str):
    case = Case("nil", "conv4-stride", "transductive", 3, (("compare", compare),))
    setting = make(case).at(phase=phase)
    headless = {n: p * 0 if n.startswith("head") else p for n, p in setting.params.items()}
    (outputs,) = setting.predictions(0)
    (again,) = replace(setting, params=headless).predictions(0)
    assert torch.equal(outputs, again)
    assert bool((outputs.abs() <= 1 + 1e-12).all())
    other = {n: p * 1.5 if n.startswith("conv4") else p for n, p in setting.params.items()}
    assert not torch.equal(replace(setting, params=other).predictions(0)[0], outputs)


# --- an input bias --------------------------------------------------------------------------------


def bias_gradient(setting: Setting) -> tuple[Tensor, Tensor]:
    """Of the first task's support loss: by the tape, and W1' delta."""
    learner = setting.algorithm
    assert isinstance(learner, InnerLoop)
    at, task = leaves(setting.params), setting.tasks.task(0)
    norm = learner.normalisation.support(setting.ctx)
    outputs = learner.backbone.forward(at, task.support.x, norm).value
    loss = ((outputs - task.support.y) ** 2).mean()
    got = derivative(loss, at)["input_bias"]
    # The plain program, with the first layer's outputs as leaves.
    p, size = setting.params, len(setting.params["input_bias"])
    x = torch.cat([task.support.x, p["input_bias"].repeat(len(task.support.x), 1)], 1)
    first = (x @ p["linear1.weight"].T + p["linear1.bias"]).requires_grad_()
    h = first.tanh() @ p["linear2.weight"].T + p["linear2.bias"]
    last = h.tanh() @ p["linear3.weight"].T + p["linear3.bias"]
    (delta,) = torch.autograd.grad(((last - task.support.y) ** 2).mean(), first)
    return got, p["linear1.weight"][:, -size:].T @ delta.sum(0)


def test_the_gradient_of_an_input_bias_is_the_first_layers_error():
    got, wanted = bias_gradient(make(Case("maml_input_bias", "mlp-tanh", "none", 1)))
    assert got.shape == (10,)
    assert distance({"bias": got}, {"bias": wanted}) <= CLOSED_FORM
    assert bool((wanted != 0).all())


def test_an_input_bias_starts_at_zero_and_is_adapted():
    setting = make(Case("maml_input_bias", "mlp-tanh", "none", 1))
    assert not setting.algorithm.init(Key.of("fresh"))["input_bias"].any()
    before, after = setting.adapted(0)
    got, _ = bias_gradient(setting)
    step = before.params["input_bias"] - after.params["input_bias"].detach()
    assert distance({"bias": step}, {"bias": setting.case.network.lr * got}) <= EXACT


def test_an_input_bias_that_stays_is_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = make(Case("maml_input_bias", "mlp-tanh", "none", 2))
    check_definition(setting, setting.loop())
    plain = InnerLoop.adapts
    monkeypatch.setattr(InnerLoop, "adapts", lambda s, n: n != "input_bias" and plain(s, n))
    with pytest.raises(AssertionError):
        check_definition(setting, setting.loop())
