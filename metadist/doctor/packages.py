"""What ``metadist doctor`` looks at first: whether what is imported is whole, and ours."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import metadist
from metadist.doctor.check import INSTALL, Check, Status
from metadist.process.imports import copies, home, import_path, shadowed, standard_library

#: Files without which an imported ``data_pipeline`` is not the one of this project.
_MARKERS = ("episodes/types.py", "shards/writer.py", "store/class_store.py")
#: Whom a folder concerns that is not on the path of this process.
_THERE = "python -m, notebooks and scripts that are started there"


def packages() -> Iterator[Check]:
    """The installed distribution and everything it asks for; nothing is imported."""
    here = Path(metadist.__file__).resolve().parent
    try:
        installed = importlib.metadata.version("metadist")
    except importlib.metadata.PackageNotFoundError:
        yield Check("metadist", "FAIL", f"found at {here} but not installed", INSTALL)
        return
    found = f"{metadist.__version__} at {here}"
    if installed == metadist.__version__:
        yield Check("metadist", "OK", found)
    else:
        yield Check("metadist", "warn", f"{found}, installed as {installed}", INSTALL)
    good: list[str] = []
    for requirement in importlib.metadata.requires("metadist") or []:
        wanted, _, marker = requirement.partition(";")
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", marker)
        if extra and extra[1] == "dev":
            continue
        (name,) = re.findall(r"^[\w.-]+", wanted)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if extra:
                mend = f"for it: pip install 'metadist[{extra[1]}]'"
                yield Check(name, "warn", f"not installed; only {extra[1]!r} needs it", mend)
            else:
                yield Check(name, "FAIL", "not installed", f"pip install '{wanted.strip()}'")
            continue
        if _satisfies(wanted, version):
            good.append(f"{name} {version}")
        else:
            found = f"{version}, {wanted.strip()} is asked for"
            yield Check(name, "warn", found, "pip install that")
    yield Check("packages", "OK", ", ".join(good))


def _satisfies(wanted: str, version: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return bool(Requirement(wanted).specifier.contains(version, prereleases=True))


def data_pipeline() -> Iterator[Check]:
    """Whether the ``data_pipeline`` that Python imports is ours: others use that name too."""
    name = "data_pipeline"
    ours = Path(metadist.__file__).resolve().parent.parent / name
    missing = [marker for marker in _MARKERS if not (ours / marker).is_file()]
    claims = set(importlib.metadata.packages_distributions().get(name, ())) - {"metadist"}
    others = ", ".join(sorted(claims))
    spec = importlib.util.find_spec(name)
    origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
    status: Status = "FAIL"
    mend = "use a virtual environment of its own, or rename or uninstall the other"
    if missing:
        found = f"{ours} lacks {', '.join(missing)}"
        mend = f"install metadist anew: {INSTALL}"
    elif origin != ours:
        whose = f"of {others}" if others else "a folder of that name earlier on Python's path"
        found = f"not ours: Python imports {origin or 'nothing'} ({whose}), ours is {ours}"
    elif changed := _overwritten(name):
        found = f"{ours} was overwritten by {others or 'something else'}: {', '.join(changed[:3])}"
        mend = "uninstall the other and install metadist anew, or use a virtual environment"
    elif others:
        status, found = "warn", f"ours, {ours}; but {others} installs a package of that name too"
        mend = "uninstall it, or use a virtual environment of its own"
    else:
        status, found, mend = "OK", f"ours, {ours}", ""
    yield Check(name, status, found, mend)


def _overwritten(package: str) -> list[str]:
    """Files of a package that are not what was installed; none can be told in a checkout."""
    changed = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("metadist") or []:
            if file.parts[0] != package or file.hash is None or file.hash.mode != "sha256":
                continue
            path = Path(str(file.locate()))
            digest = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                changed.append(str(file))
    return changed


def imports() -> Iterator[Check]:
    """Other copies of our packages, and files called like modules of the standard library."""
    here = str(Path.cwd())
    path = [os.path.abspath(p) for p in sys.path]
    found = False
    for folder in dict.fromkeys([here, *import_path()]):
        who = "Python" if folder in path else _THERE
        if others := copies(folder):
            found = True
            what = (
                f"{folder} holds another {', '.join(others)} than {home()}, which is imported here"
            )
            mend = "work in another folder, or rename or uninstall the other"
            yield Check("imports", "warn", f"{what}: {_THERE} may compute with it", mend)
        standard = min((path.index(p) for p in standard_library() if p in path), default=0)
        before = path.index(folder) < standard if folder in path else folder == here
        if before and (names := shadowed(folder)):
            found = True
            files = f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
            what = f"{folder} hides {files} of the standard library: {who} would import these"
            yield Check("imports", "warn", what, "rename them, or work in another folder")
    if not found:
        yield Check("imports", "OK", f"from {home()}; no folder hides it or the standard library")
