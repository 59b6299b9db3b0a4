"""What a module says of itself, for whoever reads a recipe."""

from __future__ import annotations

import difflib
import inspect
import linecache
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
            "warning",
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
                "warning",
            )


def hooks(module: ModuleType) -> Iterator[Finding]:
    """No method that nothing calls has nearly the name, or the arguments, of one that is called."""
    own = [c for c in vars(module).values() if getattr(c, "__module__", "") == module.__name__]
    code = "".join(linecache.getlines(module.__file__ or ""))
    for cls in (c for c in own if isinstance(c, type)):
        bases = [b for b in cls.__mro__ if b not in own and b.__module__.startswith("metadist.")]
        known = {n: v for b in reversed(bases) for n, v in vars(b).items() if n[0] != "_"}
        known |= {n: None for b in bases for n in inspect.get_annotations(b) if n not in known}
        written = {n for base in cls.__mro__ if base in own for n in vars(base)}
        for name, value in vars(cls).items():
            if name[0] == "_" or name in known or re.search(rf"\.{re.escape(name)}\b", code):
                continue
            free = {n: v for n, v in known.items() if n not in written}
            like = difflib.get_close_matches(name, free, 1, 0.8)
            alike = [n for n, v in free.items() if _arguments(v) == _arguments(value) != ()]
            like = like or alike
            if like:
                yield found(
                    f"methods of {cls.__name__} that something calls",
                    f"{name}, which nothing calls",
                    f"call it {' or '.join(map(repr, like))} if that is meant, or let its name "
                    "begin with _",
                    "warning",
                )


def _arguments(value: object) -> tuple[str, ...]:
    return tuple(inspect.signature(value).parameters)[1:] if inspect.isfunction(value) else ()


CHECKS: tuple[Callable[[ModuleType], Iterator[Finding]], ...] = (docstring, options, hooks)
