"""Every field and every option of a recipe, and another value for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from metadist import algorithms, backbones
from metadist.compute.resolve import resolve
from metadist.recipe.schema import Recipe, parse_recipe

MINIMAL = """
[data]
dataset = "strokes"
[model]
name = "conv4"
[algorithm]
name = "maml"
"""


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
    if key == "lr_changes":
        return "3: 0.5"
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, float):
        return value / 2 if value else 0.5
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

#: What an option needs that has an effect only with another one.
NEEDS = {
    "meta_sgd.low": ("algorithm.init=uniform",),
    "meta_sgd.high": ("algorithm.init=uniform",),
    "taml.alpha": ("algorithm.variant=generalised_entropy",),
    "taml.epsilon": ("algorithm.variant=atkinson",),
}


def resolved(section: str, name: str, key: str = "") -> Recipe:
    return resolve(minimal(f"{section}.name={name}", *NEEDS.get(f"{name}.{key}", ())))


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
