"""What ``metadist doctor`` says of where things go: the directories of data and of runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metadist.doctor.check import LITTLE, Check, brief
from metadist.process.resources import human_bytes

#: Seconds to wait for a server.
PATIENCE = 3.0
#: No path has it. Paths are examined without ``data_pipeline``, which may be the trouble.
URI = "://"


def data(given: str | None) -> Iterator[Check]:
    """The data directory, and how much is prepared in it."""
    variable = os.environ.get("METADIST_DATA_DIR")
    text = given or variable or "data"
    if URI in text:
        yield from remote("data", text)
        return
    path = Path(text).expanduser().absolute()
    origin = "--data-dir" if given else "METADIST_DATA_DIR" if variable else ""
    stores = len(list(path.glob("*/store/store.json"))) if path.is_dir() else 0
    yield from folder("data", path, origin, f"{stores} prepared, " if path.is_dir() else "")


def runs(given: str) -> Iterator[Check]:
    """The directory of runs."""
    if URI in given:
        yield from remote("runs", given)
    else:
        yield from folder("runs", Path(given).expanduser().absolute(), "")


def remote(name: str, uri: str) -> Iterator[Check]:
    """Whether a place in an object store can be reached, and where its working copy lies."""
    from data_pipeline.errors import DataError
    from data_pipeline.storage.object_requests import impatient
    from data_pipeline.storage.object_uri import cache_directory, local_path
    from data_pipeline.storage.objects import object_place

    try:
        place = object_place(local_path(uri))
        assert place is not None
        with impatient(PATIENCE):
            place.folders()
    except DataError as error:
        yield Check(name, "FAIL", str(error))
        return
    yield Check(name, "OK", f"{uri} at {place.store}, working copies in {cache_directory()}")


def folder(name: str, path: Path, origin: str, holds: str = "") -> Iterator[Check]:
    """Whether a directory can be written to, or be made, and how much room it has."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    found = f"{path}{f' ({origin})' if origin else ''}"
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        at = "" if place == path else f" at {place}"
        reason = error.strerror or brief(error)
        mend = f"mend its permissions, or name another with --{name}-dir"
        yield Check(name, "FAIL", f"{found}: cannot be written to{at} ({reason})", mend)
        return
    new = "" if place == path else "not there yet, "
    found = f"{found}: {new}{holds}{human_bytes(free)} free"
    little = free < LITTLE
    yield Check(name, "warn" if little else "OK", found, "make room" if little else "")
