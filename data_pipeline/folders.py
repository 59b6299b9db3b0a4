"""Folders of a user's own: which files they hold, without following links out of them."""

from __future__ import annotations

import os
from pathlib import Path

from data_pipeline import storage
from data_pipeline.errors import DataError, UnsafeData

#: Left behind by desktops.
_IGNORED = frozenset({"Thumbs.db", "desktop.ini"})
#: The folder itself among the folders that :func:`scan` finds.
ITSELF = "."


def scan(root: Path) -> dict[str, list[str]]:
    """Folders with files directly in them, and folders with nothing at all in them.

    Hidden files and what desktops leave behind are passed over.

    Returns:
        folder -> its files, both relative to ``root`` (which is ``.``) and sorted.

    Raises:
        DataError: a folder cannot be read, or a name is not valid Unicode.
        UnsafeData: a link to a folder or out of ``root``, or what is neither file nor folder.
    """
    found: dict[str, list[str]] = {}
    for directory, folders, files in os.walk(root, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(directory)
        for name in folders:
            if (here / name).is_symlink():
                raise UnsafeData(f"{here / name}: a link to a folder; put the folder itself there")
        kept = []
        for name in sorted(files):
            if name.startswith(".") or name in _IGNORED:
                continue
            relative = (here / name).relative_to(root).as_posix()
            try:
                relative.encode()
            except UnicodeEncodeError:
                raise DataError(f"{here}: the name {name!r} is not valid Unicode") from None
            if not storage.inside(root, relative).is_file():
                raise UnsafeData(f"{here / name}: neither a file nor a folder")
            kept.append(relative)
        if kept or not folders:
            found[here.relative_to(root).as_posix()] = kept
    return dict(sorted(found.items()))


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
