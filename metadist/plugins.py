"""Parts from outside this package: which there are, and from which source a run was made.

A plugin is a module that the user names, ``--plugin my_package.toy`` or ``--plugin ./toy.py``; it
says in ``PART`` which kind of part it is (``data_pipeline.registry``) and a recipe then knows it by
its last name, ``toy``. Neither a recipe nor a run directory can name a module: both are data, and
using them must not run code that their reader has not asked for. A run records the digest of each
source, and goes on with that source only. ``./my_net.py:make`` is a backbone ``make`` of the
modules that the function or class ``make`` of that file makes (``metadist.from_module``), which
then needs no ``PART``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from data_pipeline import registry
from data_pipeline.storage.local import sha256_bytes
from data_pipeline.storage.typed_paths import typed_path
from metadist.errors import PluginError, RunError
from metadist.process.foreign_code import failures_told, makers_in
from metadist.recipe.schema import Recipe
from metadist.runs.readers.plugins import changes, how_to_give, read_plugins

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plugin:
    """A part from outside, as it can be sent to another process.

    Attributes:
        kind: ``algorithm``, ``backbone``, ``objective``, ``dataset``, ``function``,
            ``episode_source`` or ``tune_space``.
        name: what a recipe calls it.
        source: absolute path of its file, or the dotted name of its module; of a factory of
            modules with its name behind a colon.
        sha256: of its source file, and of nothing that the file imports.
        root: folder from which a module can be imported that is not installed.
        distribution: name and version of the installed distribution that announces it.
    """

    kind: str
    name: str
    source: str
    sha256: str
    root: str = ""
    distribution: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What a run records of it."""
        where = "path" if _is_path(_split(self.source)[0]) else "module"
        facts = {"name": self.name, where: self.source, "sha256": self.sha256}
        return facts | ({"distribution": self.distribution} if self.distribution else {})


#: Kinds that a recipe names by the same key.
_DATA = ("dataset", "function", "episode_source")
#: Plugins in use, by kind and name.
_active: dict[tuple[str, str], Plugin] = {}
#: Digest of each module's source when it was first seen here: it stays what Python has imported.
_imported: dict[str, str] = {}
#: Files that are being imported.
_running: list[str] = []


@contextlib.contextmanager
def use(given: str | Path | Iterable[str | Path | Plugin]) -> Iterator[tuple[Plugin, ...]]:
    """Let recipes name these plugins inside the block.

    Args:
        given: dotted names of modules, which are also looked for in the current directory; paths
            of files; plugins that another process has read.

    Raises:
        PluginError: one cannot be imported, is no part, has a name that is taken, or has not the
            source that the other process has read; or it comes here itself when it is imported.
        PluginFailure: the code of a part from outside has failed inside the block.
    """
    if _running:
        raise PluginError(
            f"{_running[-1]} is being imported as a plugin, and starts a run: put what is to run "
            "below if __name__ == '__main__':"
        )
    several = (given,) if isinstance(given, str | Path) else given
    with contextlib.ExitStack() as stack, failures_told(_by_file):
        yield tuple([stack.enter_context(_used(one)) for one in several])


def kept(used: Iterable[Plugin]) -> Callable[[], contextlib.ExitStack]:
    """What brings plugins that are in use now into use again, whatever becomes of their files."""
    modules = [(one, registry.load(package(one.kind), one.name, one.kind)) for one in used]

    def again() -> contextlib.ExitStack:
        with contextlib.ExitStack() as stack:
            for plugin, module in modules:
                stack.enter_context(_registered(plugin, module))
            return stack.pop_all()

    return again


def _by_file() -> dict[str, tuple[str, str]]:
    """The parts from outside that are loaded, by source file: in words, and as they are given."""
    found = {}
    for (kind, name), plugin in _active.items():
        found[str(source_of(plugin))] = f"{kind} {name!r}", given(plugin.source)
    for point in registry.announced():
        if module := sys.modules.get(point.value):
            kind, _, name = point.name.partition(".")
            found[str(module.__file__)] = f"{kind} {name!r}", point.name
    return found


def given(source: str) -> str:
    """A plugin's source as one would type it here: a file below this directory as ``./toy.py``."""
    place, _ = _split(source)
    if _is_path(place) and Path(place).is_relative_to(Path.cwd()):
        source = f"./{Path(source).relative_to(Path.cwd())}"
    return shlex.quote(source)


def of(recipe: Recipe) -> dict[str, Plugin]:
    """The parts of a recipe that come from outside, by kind.

    Raises:
        PluginError: the module of a distribution cannot be imported, or is no part.
    """
    named = (
        ("algorithm", recipe.algorithm.name),
        ("backbone", recipe.model.name),
        ("objective", recipe.objective.name),
        ("dataset", recipe.data.dataset),
        ("function", recipe.data.dataset),
        ("episode_source", recipe.data.dataset),
    )
    return {kind: plugin for kind, name in named if (plugin := _known(kind, name))}


def source_of(plugin: Plugin) -> Path:
    """The source file of a plugin in use."""
    return Path(registry.load(package(plugin.kind), plugin.name, plugin.kind).__file__ or "")


def unused(recipe: Recipe) -> list[Plugin]:
    """Plugins in use that this recipe does not name; recipes name no search space."""
    return [p for p in _active.values() if p not in of(recipe).values() and p.kind != "tune_space"]


def key(kind: str) -> str:
    """The key by which a recipe names a part of this kind."""
    keys = {"backbone": "model.name", **dict.fromkeys(_DATA, "data.dataset")}
    return keys.get(kind, f"{kind}.name")


def facts(used: Mapping[str, Plugin]) -> dict[str, dict[str, str]]:
    """What a run records of its parts from outside, by kind."""
    return {kind: plugin.facts for kind, plugin in used.items()}


def require(run: Path, info: Mapping[str, Any], *, warn: bool = False) -> None:
    """Check that the parts from outside that a run was made with are there.

    Args:
        run: its directory.
        info: the contents of its run.json.
        warn: log a warning where one has another source now.

    Raises:
        RunError: some are missing; the message says how to give them. Or a record is none.
    """
    try:
        recorded = read_plugins(info.get("plugins", {}))
    except ValueError as error:
        raise RunError(f"{run}: {error}; its record was altered, put it back") from None
    missing = {}
    for kind, made in recorded.items():
        if plugin := _known(kind, made["name"]):
            changed = changes({kind: made}, {kind: plugin.facts})
            if changed and warn:
                log.warning("%s: %s; its figures need not be the run's", run, changed[0])
            continue
        missing[kind] = made
    if missing:
        raise RunError(f"{run}: {how_to_give(missing)}")


def _known(kind: str, name: str) -> Plugin | None:
    """The part from outside of this kind and name; None if there is none, or it is built in."""
    if (kind, name) in _active:
        return _active[kind, name]
    with _told():
        point = registry.entry_point(kind, name)
        if point is None:
            return None
        module = registry.load(package(kind), name, kind)
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else ""
    return Plugin(kind, name, point.value, _digest_of(module), distribution=distribution)


@contextlib.contextmanager
def _used(given: str | Path | Plugin) -> Iterator[Plugin]:
    """One plugin, registered unless it is already."""
    expected = given if isinstance(given, Plugin) else None
    source = expected.source if expected else str(given)
    if isinstance(given, Path):
        source = str(typed_path(given).resolve())
    place, factory = _split(source)
    with _told("; every worker must see the same" if expected else ""):
        if _is_path(place):
            plugin, module = _from_file(typed_path(place).resolve(), factory)
        else:
            root = expected.root if expected else str(Path.cwd())
            plugin, module = _from_module(place, root, factory)
    if expected and expected.sha256 != plugin.sha256:
        raise PluginError(
            f"--plugin {source}: the source here has SHA-256 {plugin.sha256[:12]}, where the run "
            f"was started it has {expected.sha256[:12]}; every worker must see the same file"
        )
    with _registered(plugin, module):
        yield plugin


@contextlib.contextmanager
def _registered(plugin: Plugin, module: ModuleType) -> Iterator[None]:
    """A plugin in use, as it may be already."""
    if _active.get((plugin.kind, plugin.name)) == plugin:
        yield
        return
    with _told():
        _check_free(plugin)
    with registry.registered(plugin.kind, plugin.name, module):
        _active[plugin.kind, plugin.name] = plugin
        try:
            yield
        finally:
            del _active[plugin.kind, plugin.name]


@contextlib.contextmanager
def _told(more: str = "") -> Iterator[None]:
    """An error of the data pipeline's as one of this package's."""
    try:
        yield
    except registry.PartError as error:
        raise PluginError(f"{error}{more}") from error


def _is_path(source: str) -> bool:
    return "/" in source or source.endswith(".py")


def _split(source: str) -> tuple[str, str]:
    """Place and name of a factory of modules; without one the name is empty."""
    place, colon, factory = source.rpartition(":")
    return (place, factory) if colon and factory.isidentifier() else (source, "")


def _plugin(
    module: ModuleType, factory: str, source: str, name: str, digest: str, root: str = ""
) -> tuple[Plugin, ModuleType]:
    """A plugin and its module, which is around a factory if one is named."""
    name, where = factory or name, f"--plugin {source}"
    part = _around(module, factory, where) if factory else module
    try:
        kind = registry.check(part, name, where)
    except registry.PartError as error:
        makers = " or ".join(f"{where}:{maker}" for maker in makers_in(part))
        if hasattr(part, "PART") or not makers:
            raise
        raise PluginError(
            f"{error}. A network of torch's modules is given by what makes it: {makers}"
        ) from None
    return Plugin(kind, name, source, digest, root), part


def _around(module: ModuleType, factory: str, where: str) -> ModuleType:
    """The backbone of a factory in a module."""
    # Here: torch is not needed to know what a plugin is.
    from metadist.backbones._from_module import from_module

    if not hasattr(module, factory):
        raise PluginError(f"{where}: there is no {factory!r} in that file")
    with registry.explained(where):
        options, build = from_module(getattr(module, factory))
    part = ModuleType(f"{module.__name__}:{factory}", module.__doc__)
    part.__file__ = module.__file__
    vars(part).update(PART="backbone", Options=options, build=build)
    return part


def _from_file(path: Path, factory: str) -> tuple[Plugin, ModuleType]:
    where = f"--plugin {path}:{factory}".rstrip(":")
    if not path.stem.isidentifier() or path.suffix != ".py":
        raise PluginError(f"{where}: a Python file is needed, named like a variable, as toy.py")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(f"{where}: cannot be read ({error.strerror})") from None
    digest = sha256_bytes(source)
    name = f"metadist_plugin_{path.stem}_{sha256_bytes(f'{path} {digest}'.encode())[:12]}"
    module = sys.modules.get(name) or _run_source(name, path, source, where)
    return _plugin(module, factory, f"{path}:{factory}".rstrip(":"), path.stem, digest)


def _run_source(name: str, path: Path, source: bytes, where: str) -> ModuleType:
    """A module from the very bytes that were digested, never from a stale cache."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    _running.append(where)
    try:
        with registry.explained(where):
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _running.pop()
    return module


def _from_module(source: str, root: str, factory: str) -> tuple[Plugin, ModuleType]:
    where = f"--plugin {source}:{factory}".rstrip(":")
    if not all(component.isidentifier() for component in source.split(".")):
        raise PluginError(
            f"{where}: the dotted name of a module is needed, as my_package.toy, or the path of a "
            "file, as ./toy.py"
        )
    importlib.invalidate_caches()
    top = source.partition(".")[0]
    with registry.explained(where):
        if root and root not in sys.path and importlib.util.find_spec(top) is None:
            sys.path.append(root)  # to stay: the module may import from there later
        module = importlib.import_module(source)
    if hasattr(module, "__path__"):
        raise PluginError(f"{where}: this is a package; name the module in it that is the part")
    folder = Path(module.__file__ or "").resolve().parents[source.count(".")]
    called, name = f"{source}:{factory}".rstrip(":"), source.rpartition(".")[2]
    return _plugin(module, factory, called, name, _digest_of(module), str(folder))


def _digest_of(module: ModuleType) -> str:
    name, file = module.__name__, module.__file__
    if file is None or not Path(file).is_file():
        raise PluginError(f"{name}: its source must be a file, so that a run can record it")
    digest = sha256_bytes(Path(file).read_bytes())
    if _imported.setdefault(name, digest) != digest:
        raise PluginError(
            f"{file}: changed since this process imported it; start Python anew, or name the file "
            "instead of the module"
        )
    return digest


def _check_free(plugin: Plugin) -> None:
    """A recipe's name for a part must mean one thing."""
    for kind in _DATA if plugin.kind in _DATA else (plugin.kind,):
        if owner := _owner(package(kind), plugin):
            raise PluginError(
                f"--plugin {plugin.source}: the name {plugin.name!r} is taken by {owner}; rename "
                "the module"
            )


def _owner(package: ModuleType, plugin: Plugin) -> str:
    """Whose a plugin's name is in a package; nobody's if the plugin is that entry point itself."""
    kind = registry.kind_of(package)
    if plugin.name in registry.builtin_names(package):
        return f"the built-in {kind} {plugin.name!r}"
    if (kind, plugin.name) in _active:
        return f"--plugin {_active[kind, plugin.name].source}"
    point = registry.entry_point(kind, plugin.name)
    if point is None or (kind, point.value) == (plugin.kind, plugin.source):
        return ""
    return registry.origin(point)


def package(kind: str) -> ModuleType:
    """The package of the parts of a kind. Imported here: data alone must not load torch."""
    if kind == "tune_space":
        return importlib.import_module("tune_spaces")
    room = "data_pipeline" if kind in _DATA else "metadist"
    return importlib.import_module(f"{room}.{kind}s")
