"""Parts that are found by their file name: one module, one name in a recipe."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from metadist.errors import RecipeError

OptionsT = TypeVar("OptionsT", bound=BaseModel)


class Options(BaseModel):
    """Base of the options a part declares: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def module_names(package: ModuleType) -> list[str]:
    """Public module names of a package, sorted."""
    return sorted(
        m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")
    )


def find(package: ModuleType, name: str, what: str) -> ModuleType:
    """The module of ``package`` called ``name``.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    known = module_names(package)
    if name not in known:
        raise RecipeError(
            f"unknown {what} {name!r}; there are {', '.join(known)}.{nearest(name, known)}"
        )
    return importlib.import_module(f"{package.__name__}.{name}")


def parse_options(model: type[OptionsT], given: dict[str, Any], where: str) -> OptionsT:
    """Validate the options of a part.

    Raises:
        RecipeError: an unknown option (with the nearest valid one) or a value out of range.
    """
    known = list(model.model_fields)
    for key in given:
        if key not in known:
            there = f"it knows {', '.join(known)}" if known else "it has no options"
            raise RecipeError(f"unknown key '{where}.{key}'; {there}.{nearest(key, known)}")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise RecipeError(explain(error, where)) from None


def explain(error: ValidationError, where: str = "") -> str:
    """A validation error in one line per field: where, what was demanded, what was got."""
    demands: dict[str, list[str]] = {}
    got: dict[str, str] = {}
    for detail in error.errors():
        # Behind section and key stand the branches of pydantic's own types.
        keys = [str(part) for part in detail["loc"]][: 1 if where else 2]
        place = ".".join([*([where] if where else []), *keys])
        demands.setdefault(place, []).append(detail["msg"].removeprefix("Value error, "))
        # A rule over several keys names what it got itself.
        got[place] = f", got {detail.get('input')!r}" if keys else ""
    return "; ".join(
        f"{place}{': ' if place else ''}{', or '.join(messages)}{got[place]}"
        for place, messages in demands.items()
    )
