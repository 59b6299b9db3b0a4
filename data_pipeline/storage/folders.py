"""Folders of a user's own: which files they hold, and which of them nobody put there on purpose."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from data_pipeline.errors import DataError, MissingData, UnsafeData, listed
from data_pipeline.storage import local

log = logging.getLogger(__name__)
#: The folder itself among the folders that :func:`scan` finds.
ITSELF = "."
#: What desktops, photo tools and storage servers leave behind, in small letters; beside what is
#: hidden (``._*``, ``.DS_Store``, ``.ipynb_checkpoints``).
_LITTER_NAMES = (
    "ehthumbs.db,ehthumbs_vista.db,desktop.ini,picasa.ini,zbthumbnail.info,icon\r,__macosx,"
    "__pycache__,@eadir,@tmp,@recycle,@recently-snapshot,#recycle,#snapshot,$recycle.bin,"
    "system volume information,lost+found,found.000,@__thumb,_vti_cnf,network trash folder,"
    "temporary items"
)
_LITTER = frozenset(_LITTER_NAMES.split(","))
_LITTER_BEGINNINGS = (".", "~$", "thumbs.db")
_LITTER_ENDINGS = ("@synoeastream", "@synoresource")
#: Files whose digests are asked for together.
_AT_ONCE = 4096


class Scan(NamedTuple):
    """What a folder holds; all paths are relative to it, and sorted.

    Attributes:
        folders: folder -> the files in it, of folders with files directly in them and folders with
            nothing at all in them; the folder itself is ``.``.
        litter: files and folders that were passed over, see :func:`is_litter`.
    """

    folders: dict[str, list[str]]
    litter: tuple[str, ...]


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system or a tool."""
    small = name.casefold()
    known = small in _LITTER or small.endswith(_LITTER_ENDINGS)
    return known or small.startswith(_LITTER_BEGINNINGS)


def tell_litter(root: Path, litter: Sequence[str]) -> None:
    """Say in a line what was passed over."""
    if litter:
        what = "what systems and tools leave behind, and what is hidden"
        log.info("%s: passed over %s: %s", root, what, listed(litter))


def scan(root: Path) -> Scan:
    """Which files a folder of a user's holds.

    Raises:
        DataError: a folder cannot be read, or a name is not valid Unicode.
        MissingData: a link to what is not there.
        UnsafeData: a link to a folder or out of ``root``, where links are not followed; a link to
            a folder that is read already; or what is neither file nor folder.
    """
    found: dict[str, list[str]] = {}
    litter: list[str] = []
    seen = {os.path.realpath(root): root}
    walk = os.walk(root, onerror=_unreadable, followlinks=local.follows_links())
    for directory, folders, files in walk:
        here = Path(directory)
        inner = here.relative_to(root)
        litter += [(inner / name).as_posix() for name in (*folders, *files) if is_litter(name)]
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in folders:
            _check_folder(here / name, seen)
        kept = [_file(root, inner / name) for name in sorted(files) if not is_litter(name)]
        if kept or not folders:
            found[inner.as_posix()] = kept
    return Scan(dict(sorted(found.items())), tuple(sorted(litter)))


def contents_sha256(root: Path, relatives: Iterable[str]) -> str:
    """SHA-256 of files by path and content: not of their times, their owners or where they lie."""
    names, whole = sorted(relatives), sha256()
    if len(names) > _AT_ONCE:
        log.info("%s: reading the contents of %d files", root, len(names))
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            digests = threads.map(lambda name: local.sha256_file(root / name), some)
            for name, digest in zip(some, digests, strict=True):
                whole.update(f"{name}\0{digest}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


def files_below(folder: Path, litter: list[str]) -> Iterator[tuple[str, Path]]:
    """All files below a folder by relative path, links followed, each folder once.

    For readers that know by their contents which files they take.

    Args:
        folder: where to look.
        litter: is told what was passed over.
    """
    seen: set[str] = set()
    for directory, folders, files in os.walk(folder, followlinks=True):
        here, real = Path(directory), os.path.realpath(directory)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        litter += [str(here / name) for name in (*folders, *files) if is_litter(name)]
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for path in (here / name for name in sorted(files) if not is_litter(name)):
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _check_folder(path: Path, seen: dict[str, Path]) -> None:
    """See that a folder may be walked into, once: links could go round in circles."""
    if not local.follows_links():
        if path.is_symlink():
            raise UnsafeData(f"{path}: a link to a folder; {local.FOLLOW_LINKS}")
        return
    real = os.path.realpath(path)
    root = next(iter(seen))
    if other := seen.get(real) or (seen[root] if Path(root).is_relative_to(real) else None):
        raise UnsafeData(
            f"{path}: leads to {real}, which is read already as {other} or holds it; remove one"
        )
    seen[real] = path


def _file(root: Path, relative: Path) -> str:
    """The path of a file, once it is seen that it may be read."""
    name, path = relative.as_posix(), root / relative
    with contextlib.suppress(UnicodeEncodeError):
        name.encode()
        if path.is_symlink() and not path.exists():
            raise MissingData(
                f"{path}: a link to {path.readlink()}, which is not there; fetch it, or remove the "
                "link"
            )
        if not local.inside(root, name).is_file():
            raise UnsafeData(f"{path}: neither a file nor a folder")
        return name
    raise DataError(f"{path.parent}: the name {path.name!r} is not valid Unicode")


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
