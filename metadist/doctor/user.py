"""What ``metadist doctor`` says of who runs it, and of the places for files that do not stay."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metadist.doctor.check import Check, brief
from metadist.doctor.directories import folder
from metadist.process.home import settle
from metadist.process.resources import human_bytes

_SHM = "/dev/shm"
#: Bytes of shared memory below which Ray keeps its objects elsewhere.
_SHM_LEAST = 100 * 10**6


def user() -> Iterator[Check]:
    """Name and home directory, temporary files, Ray's sockets, shared memory."""
    lacking = settle()
    for line in lacking:
        yield Check("user", "warn", line, "set HOME to a directory you may write to, and USER")
    if not lacking:
        yield Check("user", "OK", f"uid {os.getuid()}, home {os.path.expanduser('~')}")
    try:
        place = Path(tempfile.gettempdir())
    except OSError as error:
        yield Check(
            "temporary", "FAIL", brief(error.strerror), "set TMPDIR to one you may write to"
        )
        return
    for check in folder("temporary", place, ""):
        yield Check(check.name, check.status, check.found, "set TMPDIR" if check.mend else "")
    yield from _sockets()
    yield _shared_memory()


def _sockets() -> Iterator[Check]:
    from metadist.errors import ResourceError
    from metadist.executors.cluster.ray_files import private_directory

    said: list[str] = []
    try:
        with private_directory(said.append) as place:
            found = "; ".join(said) or f"in {place.parent}"
            yield Check("ray's sockets", "OK", found)
    except ResourceError as error:
        yield Check("ray's sockets", "warn", str(error))


def _shared_memory() -> Check:
    try:
        total = shutil.disk_usage(_SHM).total
        good = total >= _SHM_LEAST and os.access(_SHM, os.W_OK)
        found = f"{_SHM}: {human_bytes(total)}{'' if os.access(_SHM, os.W_OK) else ', read-only'}"
    except OSError as error:
        good, found = False, f"{_SHM}: {error.strerror}"
    mend = "Ray uses files instead; in a container give it more (docker run --shm-size=1g)"
    return Check("shared memory", "OK" if good else "warn", found, "" if good else mend)
