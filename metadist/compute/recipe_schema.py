"""The JSON Schema of a recipe, with the options of every part that there is.

It is made of the models by which recipes are read, so an editor that knows it completes and refuses
what they do, but for rules over several keys.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from metadist import algorithms, backbones, objectives
from metadist.discovery import find, module_names
from metadist.episode_data.places import KINDS
from metadist.recipe.schema import UNHASHED, Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PARTS = {"model": backbones, "algorithm": algorithms, "objective": objectives}


def recipe_schema() -> dict[str, Any]:
    """The schema, as JSON-able values: draft 2020-12.

    Each of [model], [algorithm] and [objective] is one of several tables, told apart by ``name``.
    """
    sections = {name: _schema(field.annotation) for name, field in Recipe.model_fields.items()}
    for section, keys in UNHASHED.items():
        for key in keys:
            sections[section]["properties"][key]["description"] += " (bits: no)"
    known = [name for package, _ in KINDS.values() for name in module_names(package)]
    sections["data"]["properties"]["dataset"]["enum"] = sorted(known)
    for section, package in _PARTS.items():
        sections[section] = _one_of(sections[section], section, package)
    needed = [name for name, field in Recipe.model_fields.items() if field.is_required()]
    return {
        "$schema": DIALECT,
        "title": "A recipe of metadist",
        "description": " ".join((Recipe.__doc__ or "").split()),
        "type": "object",
        "properties": sections,
        "required": needed,
        "additionalProperties": False,
    }


def _one_of(section: dict[str, Any], kind: str, package: Any) -> dict[str, Any]:
    """A section with the options of the part that it names: a table for each part."""
    own, name = section["properties"], section["properties"].pop("name")
    tables = []
    if "default" in name:
        unnamed = {"name": {**name, "const": ""}, **own}
        tables.append({"title": "none", "properties": unnamed, "additionalProperties": False})
    for part in package.names():
        module = find(package, part, kind)
        about = (module.__doc__ or "").strip().partition("\n")[0]
        options = _schema(module.Options).get("properties", {})
        tables.append(
            {
                "title": part,
                "description": about,
                "properties": {"name": {**name, "const": part}, **own, **options},
                "required": ["name"],
                "additionalProperties": False,
            }
        )
    return {"description": section["description"], "type": "object", "oneOf": tables}


def _schema(model: Any) -> dict[str, Any]:
    """Of a section or of options; a reader needs no titles made of names, nor line ends."""
    assert issubclass(model, BaseModel)
    schema: dict[str, Any] = model.model_json_schema()
    for value in (schema, *schema.get("properties", {}).values()):
        value.pop("title", None)
        if "description" in value:
            value["description"] = " ".join(value["description"].split())
    return schema
