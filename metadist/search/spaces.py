"""Search spaces: found by their names, and the types of what they declare.

A space is a module of somebody's, or was read from a search's record, which anybody may have
altered: annotations promise nothing of either.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from data_pipeline import registry
from metadist.errors import SpaceError
from metadist.recipe.files import builtin_names
from metadist.space import (
    Asha,
    Choice,
    Integers,
    LogUniform,
    MedianStopping,
    Mode,
    Population,
    Searcher,
    Space,
    Uniform,
    When,
    check_shape,
)

#: What trials may be measured by: ``val/`` and a metric's name.
_METRIC = re.compile(r"val/[a-zA-Z0-9_.-]{1,80}")
_SCALAR = (bool, int, float, str)


def space_name(name: str) -> str:
    """What a space is called, however it was typed: ``maml_lr`` is ``maml-lr``."""
    return name.replace("_", "-")


def space_names() -> list[str]:
    """Names of all spaces."""
    return [space_name(name) for name in registry.names(_package())]


def _package() -> Any:
    # Spaces are written against metadist, so they are looked up and not imported by it.
    return importlib.import_module("tune_spaces")


def load_space(name: str) -> Space:
    """A space by its name.

    Raises:
        SpaceError: there is none (the message names the nearest), or its module declares none.
    """
    known = space_names()
    if space_name(name) not in known:
        raise SpaceError(
            f"unknown search space {name!r}.{registry.part_hint(space_name(name), known)} "
            f"There are {', '.join(known)}"
        )
    try:
        module = registry.load(_package(), name.replace("-", "_"), "search space")
    except registry.PartError as error:
        raise SpaceError(str(error)) from error
    space = getattr(module, "SPACE", None)
    if not isinstance(space, Space):
        raise SpaceError(f"search space {name!r}: SPACE of {module.__name__} is no metadist Space")
    # A base that is a file beside the space's own is meant from there.
    beside = Path(module.__file__ or "").parent / str(space.base)
    found = space.base not in builtin_names() and beside.is_file()
    return replace(space, base=str(beside.resolve())) if found else space


def check_space(space: Space, name: str) -> None:
    """Whether the values of a space are of the types that it says, and then make sense.

    Raises:
        SpaceError: one does not; each is named.
    """
    if problems := _problems(space):
        raise SpaceError(f"space {name}: {'; '.join(problems)}")
    check_shape(space, name)


def _problems(space: Any) -> list[str]:
    problems: list[str] = []
    for field_name in ("about", "base"):
        if not isinstance(value := getattr(space, field_name), str):
            problems.append(f"{field_name}: a text is needed, got {value!r}")
    for field_name, known in (("searcher", get_args(Searcher)), ("mode", get_args(Mode))):
        if (value := getattr(space, field_name)) not in known:
            problems.append(f"{field_name}: one of {', '.join(known)} is needed, got {value!r}")
    if not isinstance(space.metric, str) or not _METRIC.fullmatch(space.metric):
        problems.append(f"metric: as 'val/accuracy' or 'val/mse', got {space.metric!r}")
    problems += _whole("", space, ("steps", "every", "trials"))
    for what, values in (("search", space.search), ("fixed", space.fixed)):
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            problems.append(f"{what}: values by section.key are needed, got {values!r}")
        elif what == "search":
            for key, domain in values.items():
                problems += _of_domain(key, domain)
        elif odd := [key for key, value in values.items() if not isinstance(value, _SCALAR)]:
            problems.append(f"fixed: {', '.join(odd)}: a number, text or truth value is needed")
    match space.scheduler:
        case None:
            pass
        case Asha():
            problems += _whole("scheduler: ", space.scheduler, ("grace", "reduction"))
        case MedianStopping():
            problems += _whole("scheduler: ", space.scheduler, ("grace", "trials"))
        case Population(_, quantile, resample):
            problems += _whole("scheduler: ", space.scheduler, ("interval",))
            factors: Any = space.scheduler.factors
            several = isinstance(factors, tuple | list) and len(factors) > 0
            if not several or not all(map(_real, (quantile, resample, *factors))):
                problems.append(f"scheduler: numbers are needed, got {space.scheduler!r}")
        case _:
            problems.append(
                "scheduler: Asha, MedianStopping, Population or None is needed, got "
                f"{space.scheduler!r}"
            )
    return problems


def _of_domain(key: str, domain: Any) -> list[str]:
    match domain:
        case LogUniform(low, high) | Uniform(low, high):
            good = _real(low) and _real(high)
            odd = [] if good else [f"{key}: numbers are needed, got {domain!r}"]
            return odd + _whole(f"{key}: ", domain, ("grid",))
        case Integers():
            return _whole(f"{key}: ", domain, ("low", "high"))
        case Choice(values):
            good = all(isinstance(value, _SCALAR) for value in values)
            return [] if good else [f"{key}: numbers, texts or truth values, got {list(values)!r}"]
        case When() if not isinstance(domain.then, When):
            declared: dict[str, Any] = vars(domain)
            good = isinstance(declared["key"], str) and isinstance(declared["values"], tuple | list)
            odd = [] if good else [f"{key}: a key and its values are needed, got {domain!r}"]
            return odd + _of_domain(key, domain.then)
    return [f"{key}: a domain is needed (LogUniform, Uniform, Integers, Choice), got {domain!r}"]


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(where: str, part: Any, names: Sequence[str]) -> list[str]:
    return [
        f"{where}{name}: a whole number is needed, got {value!r}"
        for name in names
        if type(value := getattr(part, name)) is not int
    ]
