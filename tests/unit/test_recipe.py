"""Recipes: closed, exact through TOML, hashed over everything that can change the bits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from metadist import algorithms, backbones
from metadist.algorithms import Estimator, Parts
from metadist.engine.learner import build, resolve
from metadist.errors import RecipeError
from metadist.recipe import (
    Recipe,
    builtin_names,
    differences,
    load_recipe,
    parse_override,
    parse_recipe,
    recipe_text,
)
from metadist.tasks import TaskShape

MINIMAL = """
[data]
dataset = "strokes"
[model]
name = "conv4"
[algorithm]
name = "maml"
"""
#: What must stay out of the hash: storage, and the cadence of checkpoints.
UNHASHED = {"run.checkpoint_every", "run.keep", "data.storage", "data.store"}


def minimal(*overrides: str) -> Recipe:
    return parse_recipe(MINIMAL, overrides=overrides)


def section_model(section: str) -> type[BaseModel]:
    model = Recipe.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model


def is_open(section: str) -> bool:
    return section_model(section).model_config.get("extra") == "allow"


def literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in literals(part)]


def another(model: type[BaseModel], key: str, value: Any) -> Any:
    """A different valid value of a field."""
    choices = [c for c in literals(model.model_fields[key].annotation) if c != value]
    if choices:
        return choices[0]
    if value == "unlimited":
        return 7
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, float):
        return value * 2 if value else 0.5
    return value + 1


FIELDS = [
    (section, key)
    for section in Recipe.model_fields
    for key in section_model(section).model_fields
    if f"{section}.{key}" not in {"model.name", "algorithm.name"}
]
PARTS = [("model", name) for name in backbones.names()] + [
    ("algorithm", name) for name in algorithms.names()
]


def resolved(section: str, name: str) -> Recipe:
    return resolve(minimal(f"{section}.name={name}"))


def options_model(section: str, name: str) -> type[BaseModel]:
    find = backbones.options if section == "model" else algorithms.options
    return type(find(name, {}))


def option_fields() -> Iterator[tuple[str, str, str]]:
    for section, name in PARTS:
        for key in options_model(section, name).model_fields:
            yield section, name, key


each_field = pytest.mark.parametrize(
    ("section", "key"), [pytest.param(*field, id=".".join(field)) for field in FIELDS]
)
each_option = pytest.mark.parametrize(
    ("section", "name", "key"),
    [pytest.param(*field, id="-".join(field)) for field in option_fields()],
)


def changed(recipe: Recipe, section: str, key: str, value: Any) -> Recipe:
    data = recipe.model_dump()
    data[section][key] = value
    return Recipe.model_validate(data)


# --- hash -----------------------------------------------------------------------------------------


@each_field
def test_the_hash_holds_every_field_that_can_change_bits(section: str, key: str):
    recipe = resolve(minimal())
    value = getattr(getattr(recipe, section), key)
    other = changed(recipe, section, key, another(section_model(section), key, value))
    assert getattr(getattr(other, section), key) != value
    if f"{section}.{key}" in UNHASHED:
        assert other.hash == recipe.hash
        assert differences(recipe, other) == []
    else:
        assert other.hash != recipe.hash
        (line,) = differences(recipe, other)
        assert line.startswith(f"{section}.{key}: ")


def test_every_unhashed_field_exists():
    assert {f"{section}.{key}" for section, key in FIELDS} >= UNHASHED


@each_option
def test_the_hash_holds_every_option(section: str, name: str, key: str):
    recipe = resolved(section, name)
    value = getattr(recipe, section).options[key]
    other = changed(recipe, section, key, another(options_model(section, name), key, value))
    assert resolve(other).hash != recipe.hash
    assert resolve(other) == other
    (line,) = differences(recipe, other)
    assert line.startswith(f"{section}.{key}: ")


@pytest.mark.parametrize(("section", "name"), PARTS)
def test_the_hash_holds_the_names_of_the_parts(section: str, name: str):
    hashes = {resolved(section, other).hash for s, other in PARTS if s == section}
    assert len(hashes) == len([1 for s, _ in PARTS if s == section])


def test_a_default_written_out_is_the_same_recipe():
    recipe = resolve(minimal())
    for section, key in FIELDS:
        value = getattr(getattr(recipe, section), key)
        assert changed(recipe, section, key, value).hash == recipe.hash
    written = minimal("model.filters=64", "algorithm.adapt_norm=false", "inner.lr=1e-2")
    assert resolve(written).hash == recipe.hash


def test_the_hash_without_steps():
    a, b = resolve(minimal("outer.steps=10")), resolve(minimal("outer.steps=20"))
    assert a.hash != b.hash
    assert a.hashed(without_steps=True) == b.hashed(without_steps=True)
    c = resolve(minimal("outer.steps=20", "outer.batch=4"))
    assert a.hashed(without_steps=True) != c.hashed(without_steps=True)


# --- TOML -----------------------------------------------------------------------------------------


@each_field
def test_every_field_survives_toml(section: str, key: str):
    recipe = resolve(minimal())
    value = getattr(getattr(recipe, section), key)
    other = changed(recipe, section, key, another(section_model(section), key, value))
    again = parse_recipe(other.to_toml())
    assert again == other
    assert again.hash == other.hash


@pytest.mark.parametrize("value", [1e-7, 1e22, 0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 3.0])
def test_floats_survive_toml(value: float):
    recipe = changed(minimal(), "inner", "lr", value)
    assert parse_recipe(recipe.to_toml()).inner.lr == value


@pytest.mark.parametrize(
    "text", ["", "a b", 'a"b', "a\\b", "a\nb\tc", "ä😀", "\x00\x1f", "\x7f", "# no comment", "'"]
)
def test_strings_survive_toml(text: str):
    recipe = changed(minimal(), "data", "store", text)
    assert parse_recipe(recipe.to_toml()) == recipe


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


# --- closed ---------------------------------------------------------------------------------------


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
    with pytest.raises(RecipeError, match=r"model\.filters: a single value"):
        parse_recipe(MINIMAL.replace("[algorithm]", "filters = [1, 2]\n[algorithm]"))


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
    shape = TaskShape("classification", (1, 28, 28), 5)
    with pytest.raises(RecipeError, match=r"unknown key 'algorithm\.adapt_nor'"):
        build(minimal("algorithm.adapt_nor=true"), shape)

    def network(wanted: TaskShape) -> backbones.Backbone:
        return backbones.build("conv4", {}, wanted)

    parts = Parts(network, shape, 0.1, "mean", algorithms.options("maml", {}))
    with pytest.raises(RecipeError, match="unknown algorithm"):
        algorithms.build("os", parts)


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


@pytest.mark.parametrize("text", ["inner.lr=[1, 2]", "inner.lr={a = 1}", "data.store=2024-01-01"])
def test_overrides_hold_single_values(text: str):
    with pytest.raises(RecipeError, match="a single value is needed"):
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
        "regression" if regression else "classification",
        (1,) if regression else (3, 84, 84),
        1 if regression else recipe.data.ways,
        latent=2 if regression else 0,
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
