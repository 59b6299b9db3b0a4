"""The one door to files: atomic commits, digests and paths that stay inside their root.

A directory or file that exists under its final name is complete: everything is written under a
temporary name, flushed to disk and renamed. An interrupted writer leaves only a temporary name
behind, which nobody reads and the next writer removes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipeline.errors import DamagedData, MissingData, UnsafeData

#: JSON documents of ours are small; a larger one is not ours.
MAX_JSON_BYTES = 64 * 1024 * 1024
_TEMPORARY_PREFIX = ".partial-"
_RENAME_EXCHANGE = 2
#: How a link that is not followed is mended.
FOLLOW_LINKS = (
    "if links are to be followed, as in data sets of Hugging Face or DVC, add --follow-links; else "
    "put what it leads to there itself"
)
_follows_links: ContextVar[bool] = ContextVar("follows_links", default=False)


#: The process's mask; it can only be read by setting it.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def sha256_bytes(data: bytes | memoryview) -> str:
    """Hexadecimal SHA-256 of a byte string."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks.

    Raises:
        MissingData: the file does not exist.
    """
    if not path.is_file():
        raise MissingData(f"{path}: no such file")
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sealed_json(body: dict[str, Any]) -> bytes:
    """``body`` together with its own digest, so that damage is noticed."""
    document = {"sha256": sha256_bytes(canonical_json(body)), "body": body}
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode()


def write_sealed_json(path: Path, body: dict[str, Any]) -> None:
    """Write :func:`sealed_json` atomically."""
    write_atomic(path, sealed_json(body))


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_sealed_json` wrote.

    Raises:
        MissingData: no such file.
        DamagedData: as :func:`unseal_json`.
    """
    return unseal_json(_read_json(path), path)


def unseal_json(data: bytes, name: object) -> dict[str, Any]:
    """The inverse of :func:`sealed_json`; ``name`` says in errors what the bytes are of.

    Raises:
        DamagedData: it is too large, not JSON, or its digest does not match.
    """
    document = _parsed(data, name)
    body = document.get("body") if isinstance(document, dict) else None
    if not isinstance(body, dict) or set(document) != {"sha256", "body"}:
        raise DamagedData(f"{name}: not a sealed JSON document (needs 'body' and 'sha256')")
    try:
        digest = sha256_bytes(canonical_json(body))
    except (ValueError, RecursionError) as error:  # half a character, or a number too large
        raise DamagedData(f"{name}: holds what no JSON of ours can ({error})") from None
    if digest != document["sha256"]:
        raise DamagedData(f"{name}: its digest is {digest}, it says {document['sha256']}")
    return body


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        MissingData: no such file.
        DamagedData: it is too large or does not parse.
    """
    return _parsed(_read_json(path), path)


def _read_json(path: Path) -> bytes:
    try:
        _check_size(path.stat().st_size, path)
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingData(f"{path}: no such file") from None


def _parsed(data: bytes, name: object) -> Any:
    _check_size(len(data), name)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedData(f"{name}: not valid JSON ({error})") from None


def _check_size(size: int, name: object) -> None:
    if size > MAX_JSON_BYTES:
        raise DamagedData(f"{name}: {size} bytes of JSON, at most {MAX_JSON_BYTES} expected")


def fsync_directory(path: Path) -> None:
    """Make renames inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Replace ``path`` by ``data`` so that a reader sees the old or the new bytes, never a mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, dir=path.parent)
    temporary = Path(name)
    try:
        # mkstemp makes files that only their owner may read; ours are shared like any other.
        os.fchmod(descriptor, 0o666 & ~_UMASK)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
        fsync_directory(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # A write to a full disk does not say which file it was.
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary directory that becomes ``path`` when the block ends well.

    Every file in it is flushed before the rename. If the block raises (a full disk, an
    interrupt), the temporary directory is removed and ``path`` stays as it was; if the process is
    killed, the next writer of ``path`` removes it.

    Raises:
        FileExistsError: ``path`` exists and ``replace`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already")
    prefix = f"{_TEMPORARY_PREFIX}{path.name}-"
    for leftover in path.parent.glob(f"{prefix}*"):
        _remove_if_abandoned(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    temporary.chmod(0o777 & ~_UMASK)
    lock = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield temporary
        for root, _, files in os.walk(temporary):
            for name in files:
                with (Path(root) / name).open("rb") as handle:
                    os.fsync(handle.fileno())
            fsync_directory(Path(root))
        if path.exists():
            if not replace:
                raise FileExistsError(f"{path} exists already")
            _exchange(temporary, path)
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.replace(path)
        fsync_directory(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _exchange(new: Path, old: Path) -> None:
    """Swap two directories, atomically where the system can: there is never none under ``old``."""
    with contextlib.suppress(OSError, AttributeError):
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        at_cwd = -100
        if renameat2(at_cwd, bytes(new), at_cwd, bytes(old), _RENAME_EXCHANGE) == 0:
            return
    aside = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=old.parent))
    old.replace(aside / "old")
    new.replace(old)
    (aside / "old").replace(new)
    aside.rmdir()


def _remove_if_abandoned(directory: Path) -> None:
    """Remove a temporary directory whose writer no longer lives: a live one holds a lock on it."""
    with contextlib.suppress(OSError):
        lock = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)


@contextlib.contextmanager
def locked(path: Path, taken: Exception | None = None) -> Iterator[None]:
    """Hold a lock file inside this block. The dead hold none.

    Args:
        taken: raised if somebody else holds it; None: wait for them.
    """
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if taken is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise taken or error from None
        yield


@contextlib.contextmanager
def links_followed(follow: bool = True) -> Iterator[None]:
    """Let links lead out of a user's folder inside the block: the user has asked for it."""
    token = _follows_links.set(follow)
    try:
        yield
    finally:
        _follows_links.reset(token)


def follows_links() -> bool:
    """Whether links may lead out, see :func:`links_followed`."""
    return _follows_links.get()


def inside(root: Path, relative: str) -> Path:
    """``root / relative``, refused if it would leave ``root``.

    Raises:
        UnsafeData: ``relative`` is absolute, climbs with ``..``, or leads out through a link and
            :func:`links_followed` does not hold.
    """
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\x00" in relative:
        raise UnsafeData(f"{relative!r}: a path inside {root} was expected")
    path = root / pure
    if not follows_links() and not path.resolve().is_relative_to(root.resolve()):
        raise UnsafeData(f"{relative!r}: leads out of {root}; {FOLLOW_LINKS}")
    return path
