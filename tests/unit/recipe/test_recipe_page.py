"""The schema of a recipe says what recipes are read by, and the page of all keys is made of it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import recipe_page
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from recipe_fields import FIELDS, PARTS, minimal, option_fields, resolved

from metadist.cli.main import main
from metadist.compute.recipe_schema import recipe_schema
from metadist.compute.resolve import resolve
from metadist.recipe.files import builtin_names, recipe_text
from metadist.recipe.schema import load_recipe

SCHEMA = recipe_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def wrong(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def described(schema: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in schema.get("properties", {}).items():
        yield f"{where}{key}", value
    for table in schema.get("oneOf", ()):
        yield from described(table, f"{where}{table['title']}.")


def test_it_is_a_schema_and_every_key_is_described():
    Draft202012Validator.check_schema(SCHEMA)
    keys = {
        name: value
        for section, schema in SCHEMA["properties"].items()
        for name, value in described(schema, f"{section}.")
    }
    for name, value in keys.items():
        assert value["description"].strip(), name
        assert "\n" not in value["description"]
    open_sections = {section for section, _ in PARTS} | {"objective"}
    known = {f"{section}.{key}" for section, key in FIELDS if section not in open_sections}
    known |= {f"{section}.{name}.{key}" for section, name, key in option_fields()}
    assert known <= keys.keys()


@pytest.mark.parametrize("name", builtin_names())
def test_recipes_that_come_along_fit_it(name: str):
    assert wrong(recipe_text(name)) == []
    assert wrong(resolve(load_recipe(name)).to_toml()) == []


@pytest.mark.parametrize(("section", "name"), PARTS)
def test_every_part_fits_it(section: str, name: str):
    assert wrong(resolved(section, name).to_toml()) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (("[data]", "[data]\nshotz = 1"), "$.data"),
        (("[data]", "[data]\nshots = 0"), "$.data.shots"),
        (("[data]", "[data]\nshots = 1.5"), "$.data.shots"),
        (("strokes", "storkes"), "$.data.dataset"),
        (("conv4", "conv5"), "$.model"),
        (('"conv4"', '"conv4"\nhidden = 3'), "$.model"),
        (('"maml"', '"maml"\nfirst_order = true'), "$.algorithm"),
        (("[data]", "[inner]\nlr_changes = [[3]]\n[data]"), "$.inner.lr_changes"),
        (("[data]", "[iner]\n[data]"), "$"),
    ],
)
def test_what_no_recipe_holds_does_not_fit_it(change: tuple[str, str], where: str):
    text = minimal().to_toml()
    small = '[data]\ndataset = "strokes"\n[model]\nname = "conv4"\n[algorithm]\nname = "maml"\n'
    assert wrong(text) == wrong(small) == []
    assert wrong(small.replace(*change)) == [where]


def test_an_editor_gets_it_by_the_command_with_parts_from_outside(tmp_path: Path):
    printed = CliRunner().invoke(main, ["recipes", "--schema"])
    assert json.loads(printed.stdout) == SCHEMA
    part = tmp_path / "wide.py"
    part.write_text(
        '"""A wide network."""\n\nfrom metadist.backbones.mlp import build\n'
        "from metadist.discovery import Options as Base\n\n"
        'PART = "backbone"\nNORMALISES = False\n\n\nclass Options(Base):\n'
        '    width: int = 3\n    """units"""\n'
    )
    printed = CliRunner().invoke(main, ["recipes", "--schema", f"--plugin={part}"])
    tables = {t["title"]: t for t in json.loads(printed.stdout)["properties"]["model"]["oneOf"]}
    assert tables.keys() == {"conv4", "mlp", "resnet12", "wide"}
    assert tables["wide"]["description"] == "A wide network."
    assert tables["wide"]["properties"]["width"]["description"] == "units"


def test_the_page_is_made_of_the_schema():
    """``.venv/bin/python tests/support/recipe_page.py --write`` makes it anew."""
    there = recipe_page.PAGE.read_text(encoding="utf-8")
    assert recipe_page.page(there) == there
    assert recipe_page.page(there.replace("| `algorithm.epsilon` |", "| gone |")) == there
    with pytest.raises(ValueError, match="the page has tables of"):
        recipe_page.page(there.replace("<!-- keys of [inner] -->\n", ""))
