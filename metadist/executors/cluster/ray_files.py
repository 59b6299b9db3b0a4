"""Where a private Ray has its files, and what they tell of a Ray that does not start."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metadist.errors import ResourceError
from metadist.process.announce import Announce

#: As long as the longest path of a Unix socket below the directory; the system takes 107 bytes.
_SOCKET = "r/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store.10"
#: Variables that name a place for temporary files, and places that machines have.
_VARIABLES = ("RAY_TMPDIR", "TMPDIR")
_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
_LOGS = ("gcs_server.err", "gcs_server.out", "raylet.err", "raylet.out")
#: What stands in the lines of a log that tell what was wrong.
_TELLING = (" C ", " E ", "Check failed", "Error")


@contextmanager
def private_directory(announce: Announce) -> Iterator[Path]:
    """A directory that only this user can look into, and that is gone after the block.

    Its path is short, whatever ``TMPDIR`` is: Ray has its sockets there.

    Raises:
        ResourceError: there is no place for one; the message says why.
    """
    place = _make(announce)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _make(announce: Announce) -> Path:
    named = [os.environ[name] for name in _VARIABLES if os.environ.get(name)]
    refused: list[str] = []
    for base in dict.fromkeys([*named, *_PLACES, os.getcwd()]):
        try:
            place = _make_in(base)
        except OSError as error:
            long = error.errno == errno.ENAMETOOLONG or "too long" in str(error)
            why = "too long a path" if long else error.strerror or str(error)
            refused.append(f"{base} ({why})")
            continue
        if named and base != named[0]:
            announce(f"Ray's sockets and logs go to {place}; it cannot have them in {refused[0]}")
        return place
    raise ResourceError(
        "a private Ray needs a directory with a short path for its sockets, and cannot have one in "
        f"{', '.join(refused)}; name one that you may write to with RAY_TMPDIR, or use --workers 0"
    )


def _make_in(base: str) -> Path:
    """A new directory in which there is room for sockets; if there is not, OSError."""
    place = Path(tempfile.mkdtemp(prefix="metadist-", dir=os.path.abspath(base)))
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            name = place / ("s" * len(_SOCKET))
            probe.bind(str(name))
            name.unlink()
    except OSError:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def ray_directory(place: Path) -> str:
    """Ray's own, inside a private one: Ray lets everybody into what it makes."""
    return str(place / "r")


def did_not_start(place: Path, error: BaseException) -> str:
    """Why a private Ray has not come up, from what was raised and what its processes have said."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    said = [_brief(first), *_from_logs(place)]
    return (
        f"a private Ray does not start on this machine: {'; '.join(said)}. 'metadist doctor' looks "
        "at what it needs; where the machine is only busy, try again; --workers 0 does without it"
    )


def _from_logs(place: Path) -> list[str]:
    """The last telling line of each log."""
    found = []
    for name in _LOGS:
        for log in Path(ray_directory(place)).glob(f"session_2*/logs/{name}"):
            with suppress(OSError):
                lines = log.read_text(errors="replace").splitlines()
                telling = [line for line in lines if any(word in line for word in _TELLING)]
                found += [f"{name}: {_brief(line)}" for line in telling[-1:]]
    return found


def _brief(line: str) -> str:
    return line[:300].rstrip(". ")
