"""What stands in the record of a run is true, types are kept, and nothing given is changed."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from tiers import one_in
from torch import Tensor

from metadist import algorithms, backbones
from metadist.compute.resolve import resolve
from metadist.compute.strategies.chunk import task_gradient
from metadist.context import NormMode
from metadist.discovery import find
from metadist.keys import Key
from metadist.learner import Estimator
from metadist.recipe.schema import parse_recipe
from metadist.tasks import Targets
from tests.contract.cases import (
    ALGORITHMS,
    LEARNING,
    MODELS,
    TOTAL_STEPS,
    Case,
    anywhere,
    built,
    each_algorithm,
    each_mode,
    enumerated,
    first_model,
    models_of,
    switched,
    works_on,
)
from tests.contract.setting import Setting, make, with_columns

#: Orders of derivatives that an estimator can have.
ORDERS: dict[Estimator, set[int]] = {
    "exact": {1, 2},
    "first-order": {1},
    "annealed": {2},
    "straight-through": {1, 2},
    "pseudo": {1},
    "none": {0, 1},
}
#: What can be known of a task beside support set and queries.
INFO = {"class_attributes", "class_ids", "latent", "unlabeled", "unlabeled_y"}


def option_sets(algorithm: str) -> list[tuple[str, tuple[tuple[str, Any], ...]]]:
    """Defaults and each switched option, each on a network that takes it."""
    sets = ((), *switched(algorithm))
    return [(first_model(algorithm, options), options) for options in sets]


def test_every_backbone_is_covered():
    assert {model.name for model in MODELS.values()} == set(backbones.names())


def test_every_estimator_is_known():
    assert set(ORDERS) == set(get_args(Estimator))


@each_algorithm
def test_the_source_is_cited(algorithm: str):
    text = find(algorithms, algorithm, "algorithm").__doc__
    assert text
    assert re.search(r"\b(19|20)\d\d\b", text), "the docstring names no paper with its year"


@each_algorithm
def test_it_works_on_every_kind_of_task_it_declares(algorithm: str):
    targets = algorithms.targets(algorithm)
    assert targets
    assert set(targets) <= set(get_args(Targets))
    assert {MODELS[model].targets for model in models_of(algorithm)} == set(targets)


@each_algorithm
def test_every_option_is_switched(algorithm: str):
    """What cannot be switched by itself would go unchecked."""
    every = set(type(algorithms.options(algorithm, {})).model_fields)
    assert {name for options in switched(algorithm) for name, _ in options} == every
    for options in switched(algorithm):
        first_model(algorithm, options)  # a network that takes them
    assert all(len(set(values)) == len(values) for values in enumerated(algorithm).values())


@each_algorithm
def test_what_it_declares_is_possible(algorithm: str):
    for model, options in option_sets(algorithm):
        learner = built(Case(algorithm, model, "none", options=options))
        assert learner.derivative_order in ORDERS[learner.estimator]
        assert learner.needs <= INFO
        assert len(set(learner.step_scalar_names)) == len(learner.step_scalar_names)


def order_taken(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> int:
    """The highest derivative that a step computes."""
    graphs: list[bool] = []
    plain = torch.autograd.grad

    def counted(*args: Any, **more: Any) -> Any:
        graphs.append(more.get("create_graph", False))
        return plain(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", counted)
        if setting.algorithm.estimator == "none":
            setting.loss(setting.params)
        else:
            setting.only(0).loop()
    return 2 if any(graphs) else len(graphs) and 1


@each_algorithm
def test_the_derivative_order_is_the_one_taken(algorithm: str, monkeypatch: pytest.MonkeyPatch):
    for model, options in option_sets(algorithm):
        orders = set()
        for step in (0, TOTAL_STEPS - 1):
            setting = make(Case(algorithm, model, "none", 2, options, step))
            orders.add(order_taken(setting, monkeypatch))
        assert max(orders) == setting.algorithm.derivative_order
        if setting.algorithm.estimator == "annealed":
            assert orders == {1, 2}


@each_algorithm
def test_the_recipe_survives_toml(algorithm: str):
    known = set(type(algorithms.options(algorithm, {})).model_fields)
    hashes = set()
    for options in ((), *switched(algorithm)):
        recipe = resolve(Case(algorithm, "mlp-tanh", "none", 2, options).recipe)
        again = parse_recipe(recipe.to_toml())
        assert again == recipe
        assert again.hash == recipe.hash
        assert resolve(again) == recipe
        assert set(recipe.algorithm.options) == known
        hashes.add(recipe.hash)
    assert len(hashes) == 1 + len(switched(algorithm))


@each_mode(ALGORITHMS)
def test_types_are_kept(algorithm: str, norm: NormMode):
    for model in models_of(algorithm):
        if norm in MODELS[model].norms and model in ("mlp-tanh", "mlp-relu", "conv4-stride"):
            check_types(make(Case(algorithm, model, norm, 2, dtype="float32")), torch.float32)
            if norm == "support":
                check_types(make(Case(algorithm, model, norm, 2, dtype="float64")), torch.float64)


def check_types(setting: Setting, kind: torch.dtype) -> None:
    learner, query = setting.algorithm, setting.tasks.task(0).query.without("y")
    assert {p.dtype for p in setting.params.values()} <= {kind}
    # More steps at test than in training.
    for phase, steps in (("train", 2), ("test", 3)):
        now = setting.at(phase=phase, inner_steps=steps)
        ctx = now.task_ctx(0)
        fitted = now.adapted(0)
        assert len(fitted) in (1, steps + 1)
        for one in fitted:
            prediction = learner.predict(one, query, ctx)
            assert {p.dtype for p in prediction.tensors().values()} == {kind}
            assert prediction.mean.shape == (len(query), setting.case.network.outputs)
            for values in learner.activations(one, query, ctx).values():
                assert values.dtype == kind
                assert len(values) == len(query)
    if learner.estimator == "none":
        return
    shapes = {name: tuple(p.shape) for name, p in setting.params.items()}
    task = setting.tasks.task(0)
    gradients, _ = task_gradient(learner, setting.params, task, setting.task_ctx(0))
    assert {g.dtype for g in gradients.values()} == {kind}
    for result in (setting.only(0).loop(), setting.only(0).vmap(1)[0]):
        assert {name: tuple(g.shape) for name, g in result.gradients.items()} == shapes
        announced = learner.statistics(setting.ctx)
        assert {n: tuple(s.shape) for n, s in result.statistics.items()} == announced
        assert all(s.dtype == torch.float64 for s in result.statistics.values())
        assert all(m.dtype == torch.float64 for m in result.metrics.values())


@each_algorithm
def test_fresh_parameters_are_float32_and_follow_the_key(algorithm: str):
    for model, options in [(m, ()) for m in models_of(algorithm)] + option_sets(algorithm):
        learner = built(Case(algorithm, model, "none", options=options))
        first, again, other = (learner.init(Key.of(name)) for name in ("a", "a", "b"))
        assert {p.dtype for p in first.values()} <= {torch.float32}
        assert {p.device.type for p in first.values()} <= {"cpu"}
        assert not any(p.requires_grad for p in first.values())
        assert all(torch.equal(p, again[n]) for n, p in first.items())
        if learner.estimator == "none" and not first:
            continue
        assert any(not torch.equal(p, other[n]) for n, p in first.items())


@each_algorithm
def test_findings_are_finite_and_named(algorithm: str):
    for model, options in option_sets(algorithm):
        setting = make(Case(algorithm, model, "none", options=options, dtype="float32"))
        fresh = setting.algorithm.init(Key.of("a"))
        for params in (fresh, setting.params):
            check_quantities(setting.algorithm.learned_quantities(params))


def check_quantities(learned_quantities: dict[str, dict[str, list[float]]]) -> None:
    for quantity, of in learned_quantities.items():
        assert quantity
        assert of
        for name, numbers in of.items():
            assert name
            assert numbers
            assert all(type(number) is float and math.isfinite(number) for number in numbers)


@each_algorithm
def test_draws_follow_the_key(algorithm: str):
    for model, options in option_sets(algorithm):
        setting = make(Case(algorithm, model, "none", 2, options))
        first, again, other = (
            setting.algorithm.noise(Key.of(name), setting.ctx) for name in ("a", "a", "b")
        )
        assert set(first) == set(other)
        assert all(torch.equal(d, again[n]) for n, d in first.items())
        assert not first or any(not torch.equal(d, other[n]) for n, d in first.items())


def contents(setting: Setting) -> list[Tensor]:
    """All tensors that a learner is given."""
    of_tasks = (setting.tasks.tensors, setting.ctx.state, setting.ctx.step_scalars, *setting.noise)
    return [t for some in (setting.params, *of_tasks) for t in some.values()]


@each_algorithm
def test_what_is_given_is_left_alone(algorithm: str):
    model = "conv4-stride" if works_on(algorithm, "conv4-stride") else first_model(algorithm)
    norm: NormMode = "running" if "running" in MODELS[model].norms else "none"
    setting = make(Case(algorithm, model, norm, 2))
    before = [t.clone() for t in contents(setting)]
    for index in range(len(setting)):
        now = setting.at(phase="test")
        query, ctx = setting.tasks.task(index).query.without("y"), now.task_ctx(index)
        fitted = now.adapted(index)
        once, again = (setting.algorithm.predict(fitted[-1], query, ctx) for _ in "ab")
        assert torch.equal(once.mean, again.mean)
    if setting.algorithm.estimator != "none":
        setting.loop()
        setting.vmap(2)
    assert all(torch.equal(a, b) for a, b in zip(before, contents(setting), strict=True))
    assert not any(p.requires_grad for p in setting.params.values())


@pytest.mark.parametrize("where", one_in(2, ["support_x", "query_x"]))
@pytest.mark.parametrize("algorithm", LEARNING)
def test_tasks_that_are_not_finite_are_told_from_the_others(algorithm: str, where: str):
    for model in models_of(algorithm):
        if model not in ("conv4-stride", "mlp-tanh"):
            continue
        setting = make(Case(algorithm, model, MODELS[model].norms[0]))
        assert bool(setting.loop().finite.all())
        told = [index != 2 for index in range(len(setting))]
        for value in (float("nan"), float("inf")):
            spoilt = setting.tasks.tensors[where].clone()
            spoilt[2].view(-1)[0] = value
            bad = replace(setting, tasks=with_columns(setting.tasks, **{where: spoilt}))
            assert bad.loop().finite.tolist() == told
            assert torch.cat([chunk.finite for chunk in bad.vmap(2)]).tolist() == told


def test_algorithms_are_found():
    assert {"maml", "fomaml"} <= set(LEARNING)
    assert all(anywhere(name) for name in ALGORITHMS)
