"""Recipes: closed, so that an unknown key, a bad value and a foreign name are errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from recipe_fields import MINIMAL, each_field, each_option, is_open, minimal

from metadist import algorithms, backbones, objectives
from metadist.algorithms import Parts
from metadist.compute.learners import build
from metadist.compute.resolve import resolve
from metadist.driver.request import RunRequest
from metadist.errors import RecipeError
from metadist.recipe.schema import Recipe, parse_recipe
from metadist.tasks import TaskShape


@each_field
def test_an_unknown_key_names_the_nearest(section: str, key: str):
    if is_open(section):
        return  # Its keys belong to the part it names; see below.
    wrong = f"{key}{key[-1]}"
    text = MINIMAL if section in MINIMAL else f"{MINIMAL}[{section}]\n"
    text = text.replace(f"[{section}]", f"[{section}]\n{wrong} = 1")
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, "my.toml")
    assert f"my.toml: unknown key '{section}.{wrong}'" in str(error.value)
    assert f"Did you mean '{key}'?" in str(error.value)
    with pytest.raises(RecipeError) as error:
        minimal(f"{section}.{wrong}=1")
    assert f"--set: unknown key '{section}.{wrong}'" in str(error.value)
    assert f"Did you mean '{key}'?" in str(error.value)


@pytest.mark.parametrize("overrides", [(), ("outer.steps=3",)])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": "fast"}, "recipe: inner.lr: Input should be a valid number, got 'fast'"),
        ({"lr": -1.0}, "recipe: inner.lr: Input should be greater than 0, got -1.0"),
        ({"rate": 0.1}, "recipe: unknown key 'inner.rate'; [inner] knows lr, "),
        (None, "recipe: [inner] must be a table, got None"),
    ],
)
def test_a_copy_with_a_bad_value_is_refused(changes, said, overrides):
    recipe = minimal()
    inner = None if changes is None else recipe.inner.model_copy(update=changes)
    copy = recipe.model_copy(update={"inner": inner})
    with pytest.raises(RecipeError) as error:
        RunRequest(recipe=copy, overrides=overrides).load_recipe(None)
    assert str(error.value).startswith(said)


def test_a_recipe_that_is_given_stays_what_it_was():
    recipe = minimal("model.name=mlp")
    given = RunRequest(recipe=recipe).load_recipe(None)
    assert given == recipe
    assert given.left("model") == recipe.left("model")


@each_option
def test_an_unknown_option_names_the_nearest(section: str, name: str, key: str):
    wrong = f"{key}{key[-1]}"
    with pytest.raises(RecipeError) as error:
        resolve(minimal(f"{section}.name={name}", f"{section}.{wrong}=1"))
    assert f"unknown key '{section}.{wrong}'" in str(error.value)
    assert f"Did you mean '{key}'?" in str(error.value)


@pytest.mark.parametrize("section", Recipe.model_fields)
def test_an_unknown_section_names_the_nearest(section: str):
    wrong = f"{section}{section[-1]}"
    for make in (
        lambda: parse_recipe(f"{MINIMAL}[{wrong}]\n"),
        lambda: minimal(f"{wrong}.steps=1"),
    ):
        with pytest.raises(RecipeError) as error:
            make()
        assert f"unknown section [{wrong}]" in str(error.value)
        assert f"Did you mean '{section}'?" in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("outer.batch=0", ["outer.batch", "greater than or equal to 1", "0"]),
        ("inner.lr=-1", ["inner.lr", "greater than 0", "-1"]),
        ("inner.lr=nan", ["inner.lr", "finite number"]),
        ("inner.lr=inf", ["inner.lr", "finite number"]),
        ("inner.lr=fast", ["inner.lr", "valid number", "'fast'"]),
        ("engine.mode=lop", ["engine.mode", "'loop' or 'vmap'", "'lop'"]),
        ("model.norm=batch", ["model.norm", "'transductive'", "'batch'"]),
        ("run.seed=-1", ["run.seed", "greater than or equal to 0"]),
        ("engine.chunk=33", ["engine.chunk", "outer.batch (32)", "33"]),
        ("data.episodes=never", ["data.episodes", "'unlimited'", "'never'"]),
    ],
)
def test_a_bad_value_is_named(override: str, words: list[str]):
    with pytest.raises(RecipeError) as error:
        minimal(override)
    for word in words:
        assert word in str(error.value)


def test_evaluation_must_hold_the_trained_number_of_steps():
    with pytest.raises(RecipeError, match=r"eval\.steps"):
        minimal("inner.steps=5", "eval.steps=3")
    assert minimal("inner.steps=5").eval_steps == 5
    assert minimal("inner.steps=5", "eval.steps=10").eval_steps == 10


@pytest.mark.parametrize(
    ("override", "key"), [("model.filters=0", "model.filters"), ("model.head=max", "model.head")]
)
def test_a_bad_option_is_named(override: str, key: str):
    with pytest.raises(RecipeError, match=key):
        resolve(minimal(override))


def test_a_missing_part_is_named():
    with pytest.raises(RecipeError, match=r"algorithm.*required"):
        parse_recipe('[data]\ndataset = "strokes"\n[model]\nname = "conv4"\n')
    with pytest.raises(RecipeError, match=r"must be a table"):
        parse_recipe("data = 1\n")
    with pytest.raises(RecipeError, match=r"model\.filters: a single value or a list"):
        parse_recipe(MINIMAL.replace("[algorithm]", "filters = {a = 1}\n[algorithm]"))
    with pytest.raises(RecipeError, match=r"model\.filters: .*valid integer, got \[1, 2\]"):
        resolve(parse_recipe(MINIMAL.replace("[algorithm]", "filters = [1, 2]\n[algorithm]")))


def test_recipes_are_frozen():
    recipe = minimal()
    with pytest.raises(ValidationError):
        recipe.outer.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe.run = recipe.run  # type: ignore[misc]


# --- names run no code ----------------------------------------------------------------------------


FOREIGN = [
    "os",
    "os.path",
    "metadist.algorithms.maml",
    ".maml",
    "..algorithms.maml",
    "maml.py",
    "maml:build",
    "/tmp/maml",
    "../maml",
    "__init__",
    "_private",
    "",
    "MAML",
    "norm",  # a module beside the backbones that is none
]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("section", ["model", "algorithm"])
def test_only_known_parts_have_names(section: str, name: str):
    with pytest.raises(RecipeError, match=f"unknown (backbone|algorithm) {name!r}"):
        resolve(minimal(f'{section}.name="{name}"'))


@pytest.mark.parametrize("section", ["model", "algorithm"])
def test_a_name_imports_nothing(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "intruder.py").write_text("raise SystemExit('a recipe ran code')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("intruder", "intruder.py", "./intruder", "intruder:build"):
        with pytest.raises(RecipeError, match="unknown"):
            resolve(minimal(f'{section}.name="{name}"'))
    assert "intruder" not in sys.modules


@pytest.mark.parametrize(
    ("wrong", "right"), [("algorithm.name=mamll", "maml"), ("model.name=conf4", "conv4")]
)
def test_an_unknown_part_names_the_nearest(wrong: str, right: str):
    with pytest.raises(RecipeError, match=f"Did you mean '{right}'"):
        resolve(minimal(wrong))


def test_build_refuses_what_resolve_refuses():
    shape = TaskShape((1, 28, 28), 5, 5)
    with pytest.raises(RecipeError, match=r"unknown key 'algorithm\.adapt_nor'"):
        build(minimal("algorithm.adapt_nor=true"), shape)

    def network(wanted: TaskShape) -> backbones.Backbone:
        return backbones.build("conv4", {}, wanted)

    objective = objectives.build("", {}, shape)
    parts = Parts(network, shape, objective, 0.1, "mean", algorithms.options("maml", {}))
    with pytest.raises(RecipeError, match="unknown algorithm"):
        algorithms.build("os", parts)
