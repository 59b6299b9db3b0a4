"""Search spaces, found by their names."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipeline import registry
from data_pipeline.storage.typed_paths import typed_path
from metadist.errors import SpaceError
from metadist.recipe.files import builtin_names, parse_toml, read_text
from metadist.space import Space, check_space


def space_name(name: str) -> str:
    """What a space is called, however it was typed: ``maml_lr`` and ``my/maml_lr.toml`` too are
    ``maml-lr``."""
    return (Path(name).stem if _is_file(name) else name).replace("_", "-")


def _is_file(name: str) -> bool:
    return name.endswith(".toml")


def space_names() -> list[str]:
    """Names of all spaces."""
    return [space_name(name) for name in registry.names(_package())]


def _package() -> Any:
    # Spaces are written against metadist, so they are looked up and not imported by it.
    return importlib.import_module("tune_spaces")


def load_space(name: str) -> Space:
    """A space by its name, or from a TOML file.

    Raises:
        SpaceError: there is none (the message names the nearest), or what is there declares none.
    """
    file, space = _read(name) if _is_file(name) else _declared(name)
    # A base that is a file beside the space's own is meant from there.
    beside = file.parent / str(space.base)
    found = space.base not in builtin_names() and beside.is_file()
    return replace(space, base=str(beside.resolve())) if found else space


def _declared(name: str) -> tuple[Path, Space]:
    """The file of a space's module, and what it declares."""
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
    return Path(module.__file__ or ""), space


def _read(name: str) -> tuple[Path, Space]:
    """A TOML file and its space: ``inner.lr = {kind = "LogUniform", low = 1e-3, high = 1.0}``."""
    document = parse_toml(read_text(path := typed_path(name), SpaceError), name, SpaceError)
    for table in ("search", "fixed"):
        if isinstance(document.get(table), dict):
            document[table] = dict(_flat(document[table]))
    return path, check_space(document, name)


def _flat(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by ``section.key``: without quotes a dotted key is a table in a table."""
    for section, values in table.items():
        if isinstance(values, dict) and "kind" not in values:
            yield from ((f"{section}.{key}", value) for key, value in values.items())
        else:
            yield section, values
