"""Recipes: from a file, with what ``--set`` says, and those that come along."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from recipe_fields import MINIMAL, minimal

from metadist.compute.learners import build
from metadist.compute.resolve import resolve
from metadist.errors import RecipeError
from metadist.learner import Estimator
from metadist.overrides import parse_override
from metadist.recipe.files import builtin_names, recipe_text
from metadist.recipe.schema import load_recipe, parse_recipe
from metadist.tasks import TaskShape

# --- files ----------------------------------------------------------------------------------------


def test_not_toml_is_an_error():
    with pytest.raises(RecipeError, match=r"^my\.toml: not valid TOML"):
        parse_recipe("[data", "my.toml")


def test_a_file_is_read(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    assert load_recipe(str(path)) == minimal()
    assert load_recipe(str(path), ("inner.steps=3",)) == minimal("inner.steps=3")


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="cannot be read as text"):
        load_recipe(str(path))


# --- --set ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("inner.lr=0.4", ("inner", "lr", 0.4)),
        ("inner.lr = 4e-1", ("inner", "lr", 0.4)),
        ("outer.steps=10", ("outer", "steps", 10)),
        ("outer.steps=1_000", ("outer", "steps", 1000)),
        ("algorithm.adapt_norm=true", ("algorithm", "adapt_norm", True)),
        ("model.name=conv4", ("model", "name", "conv4")),
        ('model.name="conv4"', ("model", "name", "conv4")),
        ("data.store=", ("data", "store", "")),
        ("data.store=/a b/c=d", ("data", "store", "/a b/c=d")),
        ("data.store=s3://bucket/x", ("data", "store", "s3://bucket/x")),
        ('data.episodes="unlimited"', ("data", "episodes", "unlimited")),
        ("a.b.c=1", ("a", "b.c", 1)),
        ("inner.lr_changes=[[120,0.3]]", ("inner", "lr_changes", [[120, 0.3]])),
    ],
)
def test_overrides_are_read(text: str, wanted: tuple[str, str, Any]):
    got = parse_override(text)
    assert got == wanted
    assert type(got[2]) is type(wanted[2])


@pytest.mark.parametrize("text", ["", "inner.lr", "lr=1", "inner.=1", "=1", "inner", "."])
def test_overrides_of_another_form_are_refused(text: str):
    with pytest.raises(RecipeError, match=r"--set needs section\.key=value"):
        parse_override(text)


@pytest.mark.parametrize("text", ["a.b=[{a = 1}]", "inner.lr={a = 1}", "data.store=2024-01-01"])
def test_overrides_hold_values_and_lists(text: str):
    with pytest.raises(RecipeError, match="a single value or a list of values is needed"):
        parse_override(text)


def test_overrides_win_and_the_last_one_wins():
    text = MINIMAL + "[inner]\nlr = 0.1\n"
    assert parse_recipe(text).inner.lr == 0.1
    assert parse_recipe(text, overrides=("inner.lr=0.2",)).inner.lr == 0.2
    assert parse_recipe(text, overrides=("inner.lr=0.2", "inner.lr=0.3")).inner.lr == 0.3
    assert parse_recipe(MINIMAL, overrides=("inner.lr=0.2",)).inner.lr == 0.2
    assert minimal("model.filters=8").model.options == {"filters": 8}


# --- the recipes that come along ------------------------------------------------------------------


def test_there_are_recipes():
    assert "strokes-5w1s-maml" in builtin_names()


@pytest.mark.parametrize("name", builtin_names())
def test_a_builtin_recipe_loads_and_says_how_it_is_run(name: str):
    first = recipe_text(name).splitlines()[0]
    assert first.startswith("# ")
    words = first.split()
    assert f"metadist train {name}" in first
    assert name in words, "the command must name this recipe and no longer one"
    recipe = resolve(load_recipe(name))
    assert resolve(recipe) == recipe
    assert parse_recipe(recipe.to_toml()) == recipe
    regression = recipe.data.ways == 0
    shape = TaskShape(
        (1,) if regression else (3, 84, 84),
        1 if regression else recipe.data.ways,
        recipe.data.ways,
        latent=2 if regression else 0,
        attributes=36 if recipe.data.attributes else 0,
    )
    assert build(recipe, shape).estimator in get_args(Estimator)


def test_builtin_recipes_differ():
    hashes = {resolve(load_recipe(name)).hash for name in builtin_names()}
    assert len(hashes) == len(builtin_names())


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"Did you mean 'strokes-5w1s-maml'\?"):
        load_recipe("strokes-5w1s-mamll")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecipeError, match="no recipe 'folder'"):
        load_recipe("folder")
