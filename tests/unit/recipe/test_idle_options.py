"""Settings that would do nothing are refused, not accepted in silence."""

from __future__ import annotations

from typing import Any

import pytest

from metadist.algorithms import options
from metadist.compute.learners import build
from metadist.errors import RecipeError
from metadist.recipe.schema import load_recipe
from metadist.tasks import TaskShape


@pytest.mark.parametrize(
    ("algorithm", "given", "needed"),
    [
        ("taml", {"alpha": 0.5}, "alpha has an effect only with variant 'generalised_entropy'"),
        ("taml", {"variant": "gini", "epsilon": 2.0}, "epsilon has an effect only with variant"),
        ("taml", {"variant": "entropy", "losses": "support"}, "losses has an effect only with"),
        ("meta_sgd", {"low": 0.01}, "low has an effect only with init 'uniform'"),
        ("reptile", {"inner_optimizer": "sgd", "beta1": 0.9}, "beta1 has an effect only with"),
        ("mamlpp", {"multi_step": False, "multi_step_epochs": 3}, "only with multi_step, got 3"),
        ("mamlpp", {"multi_step": False, "epoch_steps": 7}, "multi_step or derivative_annealing"),
    ],
)
def test_an_option_without_effect_is_refused(algorithm: str, given: dict[str, Any], needed: str):
    with pytest.raises(RecipeError, match=needed):
        options(algorithm, given)


@pytest.mark.parametrize(
    ("algorithm", "given"),
    [
        ("taml", {"variant": "generalised_entropy", "alpha": 0.5}),
        ("taml", {"variant": "atkinson", "epsilon": 2.0}),
        ("taml", {"variant": "entropy", "alpha": 2.0, "epsilon": 0.5, "losses": "query"}),
        ("meta_sgd", {"init": "uniform", "low": 0.01}),
        ("reptile", {"beta1": 0.9}),
        ("mamlpp", {"multi_step": False, "derivative_annealing_epochs": 2, "epoch_steps": 7}),
    ],
)
def test_one_with_an_effect_is_not_nor_a_default(algorithm: str, given: dict[str, Any]):
    assert options(algorithm, given).model_dump().items() >= given.items()


def test_a_regression_keeps_its_head():
    shape = TaskShape((1,), 1)
    drawn = ("algorithm.head_init=drawn",)
    build(load_recipe("sinusoid-10shot-finetune"), shape)
    with pytest.raises(RecipeError, match="head_init has an effect only with classification"):
        build(load_recipe("sinusoid-10shot-finetune", drawn), shape)


@pytest.mark.parametrize("norm", ["transductive", "support", "running"])
def test_a_network_without_normalisation_has_none(norm: str):
    recipe = load_recipe("sinusoid-10shot-maml", (f"model.norm={norm}",))
    with pytest.raises(RecipeError, match=rf"'mlp' has no normalisation.*got '{norm}'"):
        build(recipe, TaskShape((1,), 1))
