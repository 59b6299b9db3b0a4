"""Recipes: hashed over everything that can change the bits, exact through TOML."""

from __future__ import annotations

import pytest
from recipe_fields import (
    FIELDS,
    PARTS,
    another,
    changed,
    each_field,
    each_option,
    minimal,
    options_model,
    resolved,
    section_model,
)

from metadist.compute.resolve import resolve
from metadist.recipe.schema import differences, load_recipe, parse_recipe, varying

#: What must stay out of the hash: storage, and the cadence of checkpoints.
UNHASHED = {"run.checkpoint_every", "run.keep", "data.storage", "data.store"}


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
    recipe = resolved(section, name, key)
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


def test_options_that_parts_have_got_since_leave_hashes_as_they_were():
    recipe = resolve(minimal("algorithm.name=nearest_embedding"))
    assert recipe.model.options["halvings"] == 4
    assert recipe.algorithm.options["fine_tune"] is False
    hashed = recipe.hashed()
    assert "halvings" not in hashed["model"]
    assert "fine_tune" not in hashed["algorithm"]
    other = resolve(minimal("algorithm.name=nearest_embedding", "algorithm.fine_tune=true"))
    assert other.hashed()["algorithm"]["fine_tune"] is True


def test_a_network_that_drops_something_is_another():
    recipe = resolve(minimal("model.name=resnet12"))
    assert not {"drop_rate", "drop_size", "drop_over"} & recipe.hashed()["model"].keys()
    other = resolve(minimal("model.name=resnet12", "model.drop_rate=0.1"))
    assert other.hash != recipe.hash


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


def test_what_varies_between_many_recipes():
    texts = ("inner.lr=0.1", "data.labels=fixed", "algorithm.mine=true", "run.keep=9")
    recipes = [load_recipe("strokes-5w1s-maml", (text,)) for text in texts]
    assert varying(recipes) == {
        "data.labels": ["permuted", "fixed", "permuted", "permuted"],
        "algorithm.mine": [None, None, True, None],
        "inner.lr": [0.1, 0.4, 0.4, 0.4],
    }
    assert varying(recipes[:1]) == varying([]) == {}
