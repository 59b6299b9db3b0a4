"""The engine's gradient is what the algorithm declares, however it is computed.

``exact`` is the derivative of ``loss``: it is held against a plain loop of double backward passes
and against central differences. Other estimators are held against their definition, written a
second time, and must differ from the derivative. The loss of an algorithm with step scalars is
taken with the scalars of the whole step as constants.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiers import each_pair, one_in

from tests.contract.cases import (
    ALGORITHMS,
    LEARNING,
    MLPS,
    MODELS,
    NORMS,
    PUBLISHED,
    TASKS,
    TOTAL_STEPS,
    WAYS,
    Case,
    all_cases,
    anywhere,
    built,
    defaults_of,
    each_case,
    models_of,
    options_of,
    switched,
    works_on,
)
from tests.contract.checks import (
    check_definition,
    check_differences,
    check_estimator,
    check_everything,
    check_not_exact,
    check_same,
)
from tests.contract.setting import Setting, make, step_scalars_of, with_columns
from tests.numerics.definitions import DEFINITIONS, PREDICTIONS
from tests.numerics.reference import EXACT, distance

DEFAULT = [case for algorithm in LEARNING for case in defaults_of(algorithm)]


@pytest.fixture(scope="module", params=DEFAULT, ids=str)
def setting(request: pytest.FixtureRequest) -> Setting:
    return make(request.param)


def test_loop_gradient_is_the_definition(setting: Setting):
    check_definition(setting, setting.looped)


def test_vmap_gradient_is_the_definition(setting: Setting):
    (chunk,) = setting.vmap(TASKS)
    check_definition(setting, chunk)


def test_the_estimator_is_what_it_says(setting: Setting):
    check_estimator(setting)


def test_vmap_chunks_equal_the_loop(setting: Setting):
    # A short last chunk; on a cheap network also single tasks and a chunk longer than the step.
    cheap = setting.case.model.startswith("mlp") and not setting.case.options
    for size in (1, 2, 5) if cheap else (2,):
        chunks = setting.vmap(size)
        assert len(chunks) == -(-TASKS // size)
        check_same(chunks, setting.looped)


@each_case(one_in(2, (case for name in LEARNING for case in options_of(name))))
def test_with_an_option_the_gradient_is_the_definition_too(case: Case):
    setting = make(case)
    (chunk,) = setting.vmap(TASKS)
    check_definition(setting, chunk)
    check_same([setting.only(1).loop()], setting.only(1).vmap(1)[0])


@pytest.mark.parametrize("algorithm", LEARNING)
def test_there_may_be_no_inner_steps(algorithm: str):
    for model in MLPS:
        if works_on(algorithm, model):
            setting = make(Case(algorithm, model, "none", 0))
            assert len(setting.predictions(0)) == 1
            check_same(setting.vmap(2), setting.looped)
            if setting.algorithm.estimator == "pseudo":
                assert all(not g.any() for g in setting.looped.gradients.values())
            else:
                # Nothing is left that could be approximated.
                assert distance(setting.looped.gradients, setting.exact) <= EXACT


# --- estimators and step scalars ------------------------------------------------------------------


ANNEALED = [
    case
    for algorithm in LEARNING
    for options in ((), *switched(algorithm))
    for model in MLPS
    if works_on(algorithm, model, options)
    and built(case := Case(algorithm, model, "none", 3, options)).estimator == "annealed"
]


@each_case(ANNEALED)
def test_annealed_is_first_order_then_exact(case: Case):
    first, last = make(case), make(replace(case, outer_step=TOTAL_STEPS - 1))
    check_not_exact(first)
    check_differences(last)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("algorithm", [a for a in LEARNING if anywhere(a).step_scalar_names])
def test_signals_are_the_same_however_they_are_computed(algorithm: str, size: int):
    for model in models_of(algorithm):
        setting = make(Case(algorithm, model, MODELS[model].norms[0], 2))
        looped, together = step_scalars_of(setting), step_scalars_of(setting, size)
        assert set(looped) == set(together) == set(setting.algorithm.step_scalar_names)
        for name, values in looped.items():
            assert values.shape == (TASKS,)
            assert len(set(values.tolist())) == TASKS
            torch.testing.assert_close(together[name], values, rtol=EXACT, atol=0)


def test_every_definition_belongs_to_an_algorithm():
    assert set(DEFINITIONS) | set(PREDICTIONS) <= set(ALGORITHMS)


# --- everything -----------------------------------------------------------------------------------


@each_pair("algorithm", LEARNING, "model", MODELS, 3)
def test_everywhere(algorithm: str, model: str, subtests: pytest.Subtests):
    for case in all_cases(algorithm, [model]):
        with subtests.test(str(case)):
            check_everything(make(case))


@pytest.mark.slow
@each_case(
    # Of the others not all definitions are written for networks of this size.
    [Case("maml", name, norm, 5) for name in PUBLISHED for norm in NORMS if norm != "none"]
)
def test_published_networks(case: Case):
    setting = make(case).part(0, 2)
    # Wide networks solve these tasks, and the gradient of a solved task is all rounding.
    tasks = with_columns(setting.tasks, query_y=(setting.tasks.tensors["query_y"] + 1) % WAYS)
    setting = replace(setting, tasks=tasks)
    for result in (setting.loop(), setting.vmap(2)[0]):
        check_definition(setting, result)
