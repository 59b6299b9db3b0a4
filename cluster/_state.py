"""The state directory of a rehearsal: what is written there is run as root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from _machine import Failure, ours


@contextlib.contextmanager
def alone(file: Path, mode: str = "w") -> Iterator[None]:
    """One command at a time: what follows is done while nobody else has this file locked."""
    with open(file, mode, opener=ours) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_secret(file: Path, text: str) -> None:
    """A new file that only this user reads; an old one of that name goes."""
    file.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(file, flags, 0o600), "w") as new:
        new.write(text)


def guard(state: Path) -> None:
    """Refuse a directory where somebody else could have written what is to be run as root."""
    if not os.path.lexists(state):
        return
    if not stat.S_ISDIR(state.lstat().st_mode):
        raise Failure(f"{state} is no directory (nor may it be a link to one)")
    _guard_one(state)  # first: from here on nobody else can put anything into it
    for path in state.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another command has removed it
            _guard_one(path)


def _guard_one(path: Path) -> None:
    seen = path.lstat()
    if seen.st_uid != os.geteuid():
        raise Failure(
            f"{path} belongs to user {seen.st_uid}, and what it says would be run as user "
            f"{os.geteuid()}; name a directory of your own with --state"
        )
    if stat.S_ISLNK(seen.st_mode):
        raise Failure(f"{path} is a link; a state directory holds none")
    # In a directory, who may write is who may put another file there.
    if seen.st_mode & 0o022:
        raise Failure(
            f"{path} may be written by others, and what it says would be run as user "
            f"{os.geteuid()}; if you trust what is there: chmod go-w {path}"
        )
