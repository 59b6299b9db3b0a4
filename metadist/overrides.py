"""Overrides of a recipe: ``section.key=value`` as people type it on a command line."""

from __future__ import annotations

import math
import tomllib
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

from metadist.errors import RecipeError

Scalar = bool | int | float | str
#: Of a recipe's key; a list may hold lists.
Value = Scalar | list[Any]
#: What that is, for people.
VALUE = "a single value or a list of values"
#: Whole numbers that a float holds exactly.
_EXACT = 2**53


class Typed(str):
    """What was typed and is no TOML: a text, or a number or truth value in another spelling."""

    __slots__ = ()


class Declared(BaseModel):
    """A frozen, closed description that takes numbers as people write them (`as_declared`)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        strict=True,
        use_attribute_docstrings=True,  # descriptions of keys
    )

    @model_validator(mode="before")
    @classmethod
    def _as_declared(cls, given: Any) -> Any:
        return as_declared(cls, given)


def is_value(value: Any) -> TypeGuard[Value]:
    """Whether a key of a recipe may have this value."""
    return all(map(is_value, value)) if isinstance(value, list) else isinstance(value, Scalar)


def parse_override(text: str) -> tuple[str, str, Value]:
    """``section.key=value`` to its three parts; the value is read as TOML, else as a string.

    Raises:
        RecipeError: not of that form.
    """
    key, equals, raw = text.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot or not name or "\n" in raw:
        raise RecipeError(f"--set needs section.key=value (as in inner.lr=0.4), got {text!r}")
    raw = raw.strip()
    try:
        value: Any = tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw
    if not is_value(value):
        raise RecipeError(f"--set {key.strip()}: {VALUE} is needed, got {raw!r}")
    return section, name, value


def typed_value(model: type[BaseModel], text: str) -> Value:
    """The value of an override for a key of ``model``; a text needs no quotes to be one."""
    _, name, value = parse_override(text)
    raw = text.partition("=")[2].strip()
    field = model.model_fields.get(name)
    if not isinstance(value, str):
        return raw if field is not None and field.annotation is str else value
    return Typed(value) if value == raw else value


def as_declared(model: type[BaseModel], given: Any) -> Any:
    """Keys and values with numbers in the form that a strict ``model`` takes.

    1e3 is a whole number. ``.001``, ``1.``, ``007`` and ``True`` are typed by people and are no
    TOML. Everything else is left to the model.
    """
    if not isinstance(given, dict):
        return given
    fields = model.model_fields
    return {
        key: read_as(value, _kinds(fields[key].annotation)) if key in fields else value
        for key, value in given.items()
    }


def _kinds(annotation: Any) -> set[Any]:
    plain = get_origin(annotation) or annotation
    found = {plain} if isinstance(plain, type) else set()
    return found.union(*map(_kinds, get_args(annotation)))


def read_as(value: Any, kinds: set[Any]) -> Any:
    """``value`` as one of the plain types ``kinds`` if it can be meant so, else as it is."""
    if isinstance(value, list):
        parts = [read_as(part, kinds) for part in value]
        return tuple(parts) if tuple in kinds else parts
    if isinstance(value, Typed) and str not in kinds:
        if bool in kinds and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if kinds & {int, float}:
            value = _number(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
    return int(value) if whole and int in kinds and float not in kinds else value


def _number(text: str) -> Scalar:
    try:
        number = float(text)
    except ValueError:
        return text
    # Too long for a float to be exact, it is read digit by digit.
    if number.is_integer() and abs(number) >= _EXACT and text.lstrip("+-").isdigit():
        return int(text)
    return number if math.isfinite(number) else text
