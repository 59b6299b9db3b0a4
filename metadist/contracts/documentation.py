"""What a module says of itself, for whoever reads a recipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import ModuleType

from metadist.contracts.finding import Finding, found


def docstring(module: ModuleType) -> Iterator[Finding]:
    """The module has one."""
    if not (module.__doc__ or "").strip():
        yield found(
            "a docstring of the module that says what it is and where it is from",
            "none",
            "begin the file with one; `metadist` shows it to people",
        )


def options(module: ModuleType) -> Iterator[Finding]:
    """``Options`` is closed, and each option is explained in its docstring or its field."""
    from metadist.discovery import Options

    declared = module.Options
    if not (isinstance(declared, type) and issubclass(declared, Options)):
        yield found(
            "Options, a class made from metadist.discovery.Options",
            repr(declared),
            "write class Options(metadist.discovery.Options)",
        )
        return
    own = [cls.__doc__ or "" for cls in declared.__mro__ if issubclass(cls, Options)]
    text = " ".join([module.__doc__ or "", *own])
    for name, field in declared.model_fields.items():
        if not field.description and not re.search(rf"\b{re.escape(name)}\b", text):
            yield found(
                f"a word on the option {name!r}",
                "none in the docstring of Options or of the module",
                f"say there what ``{name}`` does",
            )


CHECKS: tuple[Callable[[ModuleType], Iterator[Finding]], ...] = (docstring, options)
