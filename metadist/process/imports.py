"""From which folders this process imports, and how another Python is made to import the same.

A Python that is started with ``-m`` or ``-c``, or by Ray, looks first in the folder it is started
in. Whatever lies there, another copy of a package or a file called like a module of the standard
library, would be used in the place of what this process uses. Needs the standard library alone.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

#: The packages of this distribution.
PACKAGES = ("metadist", "data_pipeline", "tune_spaces")


def environment() -> dict[str, str]:
    """Variables under which another Python imports what this one does, wherever it is started."""
    return {"PYTHONPATH": os.pathsep.join(import_path()), "PYTHONSAFEPATH": "1"}


def import_path() -> list[str]:
    """The folders that this process imports from: absolute, in their order, with two exceptions.

    The standard library comes first, whatever lies beside a script. A folder that would put
    another copy of a package of ours before the imported one comes last: the path has changed
    since, or the working directory, which ``""`` stands for.
    """
    standard = standard_library()
    entries: list[Any] = sys.path  # Python passes over what is no string
    given = dict.fromkeys(os.path.abspath(p) for p in entries if isinstance(p, str))
    path = [*standard, *(p for p in given if p not in standard)]
    stale: list[str] = []
    for package, origin in homes().items():
        for folder in path:
            if _same(folder, origin, package):
                break
            if holds(folder, package):
                stale.append(folder)
        else:
            path.append(origin)
    return [*(p for p in path if p not in stale), *dict.fromkeys(stale)]


def homes() -> dict[str, str]:
    """The folder that each package of ours was imported from, for those that were."""
    modules = ((name, sys.modules.get(name)) for name in PACKAGES)
    return {name: os.path.dirname(m.__path__[0]) for name, m in modules if m is not None}


def home() -> str:
    """The folder that this package was imported from."""
    return homes()[__name__.partition(".")[0]]


def holds(folder: str | Path, package: str) -> bool:
    """Whether Python would find a package, or a file in its place, in this folder."""
    return Path(folder, package, "__init__.py").is_file() or Path(folder, f"{package}.py").is_file()


def copies(folder: str | Path) -> list[str]:
    """Packages in this folder that are called like ours and are not those of this process."""
    there = [name for name in PACKAGES if holds(folder, name)]
    return [name for name in there if not _same(folder, homes().get(name, home()), name)]


def shadowed(folder: str | Path) -> list[str]:
    """Modules of the standard library that a file or package in this folder is called like."""
    try:
        there = {p.stem for p in Path(folder).iterdir()}
    except OSError:
        return []
    return sorted(name for name in sys.stdlib_module_names & there if holds(folder, name))


def _same(folder: str | Path, other: str, package: str) -> bool:
    return os.path.realpath(Path(folder, package)) == os.path.realpath(Path(other, package))


def standard_library() -> list[str]:
    """The folders of the standard library."""
    folder = sysconfig.get_path("stdlib")
    return [folder, os.path.join(folder, "lib-dynload")]
