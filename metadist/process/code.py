"""The code that computes, as digests of its source files: what a run records and workers compare.

:func:`digests` and :func:`differences` are sent to other processes as they stand here, for there
may be another version of this package, or none. They need the standard library alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from metadist.process.imports import PACKAGES

#: The packages of ours whose code decides the bits of a run.
COMPUTING = ("metadist", "data_pipeline")


def digests(packages: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each source file of the packages that are imported here, or would be.

    Returns:
        By the file's name from the package on, as ``metadist/keys.py``.
    """
    found = {}
    for package, folder in folders(packages).items():
        for path in sorted(Path(folder).rglob("*.py")):
            name = f"{package}/{path.relative_to(folder).as_posix()}"
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def folders(packages: Sequence[str]) -> dict[str, str]:
    """Where the packages lie that are imported here, or would be."""
    specs = {name: importlib.util.find_spec(name) for name in packages}
    return {
        name: spec.submodule_search_locations[0]
        for name, spec in specs.items()
        if spec is not None and spec.submodule_search_locations
    }


def differences(expected: Mapping[str, str], packages: Sequence[str]) -> str:
    """In which files the code here is another, and where it lies; empty if it is the same."""
    here = digests(packages)
    differing = sorted(n for n in {*expected, *here} if expected.get(n) != here.get(n))
    if not differing:
        return ""
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    places = ", ".join(folders(packages).values()) or "nowhere"
    return f"{', '.join(differing[:3])}{more} (imported from {places})"


#: Of this process. What it has imported stays as it was, whatever becomes of the files.
_OWN = digests(PACKAGES)


def own(packages: Sequence[str] = COMPUTING) -> dict[str, str]:
    """:func:`digests` of this process, from when it began."""
    return {name: d for name, d in _OWN.items() if name.partition("/")[0] in packages}


def code_digest() -> str:
    """One string that is equal where the code is that decides the bits of a run."""
    return hashlib.sha256(json.dumps(own(), sort_keys=True).encode()).hexdigest()
