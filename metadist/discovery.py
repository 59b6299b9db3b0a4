"""Parts that a recipe names: found by name, with options of their own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from metadist.errors import RecipeError
from metadist.overrides import Declared

OptionsT = TypeVar("OptionsT", bound=BaseModel)


class Options(Declared):
    """Base of the options a part declares: frozen and closed."""

    def refuse_idle(self, needed: str, *names: str) -> None:
        """See that options which do nothing here are left at their defaults.

        Args:
            needed: what they have an effect with.

        Raises:
            ValueError: one is not.
        """
        for name in names:
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} has an effect only with {needed}, got {value!r}; leave it out"
                )


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def module_names(package: ModuleType) -> list[str]:
    """Names of all parts of a package's kind, sorted: its modules, and those from outside."""
    # Here, so that `metadist doctor` starts where another `data_pipeline` is imported.
    from data_pipeline import registry

    return registry.names(package)


def find(package: ModuleType, name: str, what: str) -> ModuleType:
    """The part of a package's kind called ``name``: one of its modules, or one from outside.

    Raises:
        RecipeError: there is none (the message names the nearest), its name is not unique, or the
            module of a distribution cannot be used.
    """
    from data_pipeline import registry

    try:
        return registry.load(package, name, what)
    except registry.PartError as error:
        raise RecipeError(str(error)) from error


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


def explain(
    error: ValidationError,
    where: str = "",
    place: Callable[[tuple[int | str, ...]], str] | None = None,
) -> str:
    """A validation error in one line per field: where, what was demanded, what was got.

    Args:
        where: what the fields belong to; without it they are a recipe's.
        place: tells people where a field is, from pydantic's way to it.
    """
    demands: dict[str, list[str]] = {}
    got: dict[str, str] = {}
    for detail in error.errors():
        if place is not None:
            there = place(detail["loc"])
        else:
            # Behind section and key stand the branches of pydantic's own types.
            keys = [str(part) for part in detail["loc"]][: 1 if where else 2]
            there = ".".join([*([where] if where else []), *keys])
        message = detail["msg"].removeprefix("Value error, ")
        demands.setdefault(there, []).append(message)
        # A rule over several keys names what it got itself.
        got[there] = (
            f", got {detail.get('input')!r}" if detail["loc"] and ", got " not in message else ""
        )
    return "; ".join(
        f"{there}{': ' if there else ''}{', or '.join(messages)}{got[there]}"
        for there, messages in demands.items()
    )
