"""Absurd sizes are refused before anything is made of them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from recipe_fields import minimal

import metadist
from metadist.cli.main import main
from metadist.errors import RecipeError, RunError
from metadist.evaluation.protocols import EvalRequest, protocol
from metadist.recipe.schema import Recipe

LARGEST = {
    "data.ways": 10**5,
    "data.shots": 10**5,
    "data.queries": 10**5,
    "data.episodes": 10**9,
    "inner.steps": 10**4,
    "outer.steps": 10**9,
    "outer.batch": 10**6,
    "eval.episodes": 10**6,
    "eval.queries": 10**5,
    "eval.extra_queries": 10**5,
    "eval.steps": 10**4,
    "eval.every": 10**9,
    "eval.val_episodes": 10**6,
    "engine.chunk": 10**6,
    "run.checkpoint_every": 10**9,
    "run.keep": 10**9,
}


@pytest.mark.parametrize("more", [1, 10**20])
@pytest.mark.parametrize(("key", "largest"), LARGEST.items())
def test_a_recipe_has_bounds(key: str, largest: int, more: int) -> None:
    # A chunk is at most the batch, the other rules do not bind here.
    others = ("outer.batch=1000000", "eval.episodes=1", "eval.val_episodes=1")
    section, _, name = key.partition(".")
    recipe = minimal(*others, f"{key}={largest}")
    assert getattr(getattr(recipe, section), name) == largest
    with pytest.raises(RecipeError) as error:
        minimal(*others, f"{key}={largest + more}")
    for word in (key, f"less than or equal to {largest}", f"got {largest + more}"):
        assert word in str(error.value)


def test_every_whole_number_of_a_recipe_has_an_upper_bound() -> None:
    sections = Recipe.model_json_schema()["$defs"]
    for section, model in sections.items():
        for key, field in model["properties"].items():
            for kind in field.get("anyOf", [field]):
                if kind.get("type") == "integer":
                    assert {"maximum", "exclusiveMaximum"} & set(kind), f"{section}.{key}"


@pytest.mark.parametrize("key", ["episodes", "val_episodes"])
def test_a_recipe_evaluates_no_more_than_memory_holds(key: str) -> None:
    minimal(f"eval.{key}=1000000", "eval.steps=99")
    with pytest.raises(RecipeError) as error:
        minimal(f"eval.{key}=1000000", "eval.steps=100")
    for word in (f"eval.{key}", "at most 100000000", "have 101000000", "lower one of them"):
        assert word in str(error.value)


@pytest.mark.parametrize("more", [1, 10**20])
@pytest.mark.parametrize(
    ("name", "largest"),
    [("shots", 10**5), ("queries", 10**5), ("steps", 10**4), ("episodes", 10**6)],
)
def test_an_evaluation_has_bounds(name: str, largest: int, more: int) -> None:
    assert getattr(EvalRequest(**{name: largest}), name) == largest  # type: ignore[arg-type]
    words = f"{name}: at most {largest} are possible, got {largest + more}"
    with pytest.raises(RunError, match=words):
        metadist.evaluate("a", **{name: largest + more})  # type: ignore[arg-type]
    result = CliRunner().invoke(main, ["evaluate", "a", f"--{name}", str(largest + more)])
    assert result.exit_code != 0
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_an_evaluation_is_no_longer_than_memory_holds() -> None:
    runs = [("a", minimal())]
    assert protocol(runs, EvalRequest(episodes=10**6, steps=99)).episodes == 10**6
    with pytest.raises(RunError, match=r"at most 100000000 results .* have 101000000"):
        protocol(runs, EvalRequest(episodes=10**6, steps=100))
