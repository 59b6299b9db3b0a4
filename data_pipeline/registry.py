"""Parts that a recipe names: modules of a package, of installed distributions, and plugins.

A part's kind is the name of its package in the singular: ``algorithm`` for ``metadist.algorithms``,
``dataset`` for ``data_pipeline.datasets``. A module from outside says its kind itself, in ``PART``.
An installed distribution announces its modules by entry points::

    [project.entry-points."metadist.parts"]
    "algorithm.sign_maml" = "my_package.sign_maml"

They are imported when a recipe names them, never in order to list them. Plugins are modules that
the user of this process has named (``metadist.plugins``). A recipe can do neither.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

from data_pipeline.errors import DataError, did_you_mean
from data_pipeline.storage import local

#: The group of entry points by which installed distributions announce parts.
GROUP = "metadist.parts"
#: What a module of each kind exports.
EXPORTS = {
    "algorithm": ("Options", "build"),
    "backbone": ("Options", "build"),
    "dataset": ("SPEC", "iter_images"),
    "episode_source": ("SPEC", "open"),
    "function": ("SPEC", "draw"),
    "objective": ("Options", "TARGETS", "build"),
    "tune_space": ("SPACE",),
}
#: Modules that the user of this process has named, by kind and name.
_plugins: dict[tuple[str, str], ModuleType] = {}


class PartError(DataError):
    """A part is unknown, its name is not unique, or its module cannot be used."""


def kind_of(package: ModuleType) -> str:
    """The kind of the parts in a package."""
    return package.__name__.rpartition(".")[2].removesuffix("s")


@functools.cache
def builtin_names(package: ModuleType) -> tuple[str, ...]:
    """Public module names of a package, sorted."""
    modules = pkgutil.iter_modules(package.__path__)
    return tuple(sorted(m.name for m in modules if not m.name.startswith("_")))


def names(package: ModuleType) -> list[str]:
    """Names of all parts of a package's kind, sorted. Nothing is imported."""
    kind = kind_of(package)
    plugins = {name for its_kind, name in _plugins if its_kind == kind}
    installed = {
        point.name.partition(".")[2]
        for point in announced()
        if point.name.partition(".")[0] == kind
    }
    return sorted({*builtin_names(package), *installed, *plugins})


def load(package: ModuleType, name: str, what: str) -> ModuleType:
    """The part called ``name`` of a package's kind; ``what`` it is in words.

    Raises:
        PartError: there is none (the message names the nearest) or there are several, or the
            module of a distribution cannot be imported or is no such part.
    """
    kind = kind_of(package)
    if (kind, name) in _plugins:
        return _plugins[kind, name]
    point = entry_point(kind, name)
    builtin = name in builtin_names(package)
    if builtin and point is not None:
        raise PartError(
            f"{what} {name!r} comes with this package and from {origin(point)} too; uninstall "
            "that, or have it choose another name"
        )
    if builtin:
        return importlib.import_module(f"{package.__name__}.{name}")
    if point is None:
        known = names(package)
        raise PartError(
            f"unknown {what} {name!r}.{part_hint(name, known)} There are {', '.join(known)}"
        )
    where = f"{kind} {name!r} from {origin(point)}"
    with explained(where):
        module = importlib.import_module(point.value)
    if check(module, name, where) != kind:
        raise PartError(f"{where}: the module says PART = {module.PART!r}; {kind!r} is announced")
    return module


def part_hint(name: str, known: Iterable[str]) -> str:
    """How to mend the name of a part that is not known: the nearest known one, or a plugin."""
    if "." in name or "/" in name:
        stem = name.removesuffix(".py").replace("/", ".").rpartition(".")[2]
        return (
            f" A recipe cannot name a module, which would run its code: give it by "
            f"--plugin {name} and call it {stem!r} here."
        )
    return did_you_mean(name, known)


def entry_point(kind: str, name: str) -> metadata.EntryPoint | None:
    """What installed distributions announce under this kind and name; it is not imported.

    Raises:
        PartError: two distributions announce different modules.
    """
    found = [p for p in announced() if p.name == f"{kind}.{name}"]
    if len({p.value for p in found}) > 1:
        raise PartError(
            f"{kind} {name!r} comes from {' and from '.join(map(origin, found))}; uninstall all "
            "but one, or have them choose other names"
        )
    return found[0] if found else None


def announced() -> tuple[metadata.EntryPoint, ...]:
    """What installed distributions announce; nothing is imported."""
    return _entry_points(tuple(sys.path))


def origin(point: metadata.EntryPoint) -> str:
    """Where an entry point comes from: distribution, version and module."""
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "a distribution"
    return f"{distribution} ({point.value})"


@functools.lru_cache(maxsize=4)
def _entry_points(path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """All entry points of the group, read once for each state of ``sys.path``."""
    return tuple(metadata.entry_points(group=GROUP))


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn whatever another's module raises while it is imported into one line.

    Raises:
        PartError: importing it failed; ``where`` begins the message, the cause is chained.
    """
    try:
        yield
    # A module may also try to end the process.
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        cause = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise PartError(f"{where} cannot be imported: {cause}") from error


def check(module: ModuleType, name: str, where: str) -> str:
    """The kind of part that a module from outside is; ``where`` begins the message of an error.

    Raises:
        PartError: it does not say its kind, or lacks what such a part exports.
    """
    kind = getattr(module, "PART", None)
    if not isinstance(kind, str) or kind not in EXPORTS:
        raise PartError(
            f"{where} must say which kind of part it is, as in PART = 'algorithm' (or "
            f"{', '.join(repr(k) for k in EXPORTS if k != 'algorithm')}); "
            + ("it has no PART" if kind is None else f"it has PART = {kind!r}")
        )
    missing = [export for export in EXPORTS[kind] if not hasattr(module, export)]
    if missing:
        raise PartError(
            f"{where}: PART = {kind!r} must export {' and '.join(EXPORTS[kind])}; it lacks "
            f"{' and '.join(missing)}"
        )
    own = getattr(getattr(module, "SPEC", None), "name", name)
    if "SPEC" in EXPORTS[kind] and own != name:
        raise PartError(f"{where}: SPEC.name must be {name!r} as the module is, got {own!r}")
    return kind


def source_sha256(module: object) -> str:
    """SHA-256 of the source of a part from outside, as this process saw it first; "" for ours.

    Raises:
        MissingData: its source is no file.
    """
    if isinstance(module, ModuleType) and hasattr(module, "PART"):
        return _sha256_when_first_seen(module)
    return ""


@functools.cache
def _sha256_when_first_seen(module: ModuleType) -> str:
    return local.sha256_file(Path(module.__file__ or ""))


@contextlib.contextmanager
def registered(kind: str, name: str, module: ModuleType) -> Iterator[None]:
    """Let recipes name a plugin inside this block. Its name must be free."""
    _plugins[kind, name] = module
    try:
        yield
    finally:
        del _plugins[kind, name]
