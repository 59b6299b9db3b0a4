"""A file that one writer appends to and others follow: a log."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.errors import DamagedData, MissingData
from data_pipeline.storage.local import sha256_bytes
from data_pipeline.storage.objects import ObjectPlace, in_parallel

#: A segment begins with the digest of the rest, in hexadecimal, and a newline.
_HEAD = 65


class GrowingFile:
    """A file that one writer appends to, as numbered segments; readers follow it.

    Args:
        place: the prefix of its segments.
        path: the file on disk.
    """

    def __init__(self, place: ObjectPlace, path: Path) -> None:
        self._place = place
        self._path = path
        self._known: tuple[int, int] | None = None  # segments and their bytes

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def push(self) -> None:
        """Put what the file has and the store has not."""
        if self._known is None:
            held = self._place.objects()
            self._known = len(held), sum(found.size - _HEAD for found in held)
        count, length = self._known
        if self._size() <= length:
            return
        with self._path.open("rb") as file:
            file.seek(length)
            data = file.read()
        (self._place / f"{count + 1:08d}").put(sha256_bytes(data).encode() + b"\n" + data)
        self._known = count + 1, length + len(data)

    def pull(self) -> None:
        """Append what the store has and the file has not.

        Raises:
            DamagedData: a segment is not what was written; it is named.
        """
        if self._known is None:
            self._pull_all()
        while True:
            assert self._known is not None
            count, length = self._known
            try:
                self._append(length, self._segment(count + 1))
            except MissingData:
                return

    def _pull_all(self) -> None:
        """Segments that are there already, over several connections."""
        sizes = [found.size - _HEAD for found in self._place.objects()]
        start, here, wanted = 0, self._size(), []
        for number, size in enumerate(sizes, 1):
            if start + size > here:
                wanted.append(number)
            else:
                self._known = number, start + size
            start += size
        self._known = self._known or (0, 0)
        for data in in_parallel(self._segment, wanted):
            self._append(self._known[1], data)

    def _segment(self, number: int) -> bytes:
        place = self._place / f"{number:08d}"
        whole = place.get()
        head, data = whole[:_HEAD], whole[_HEAD:]
        if head != sha256_bytes(data).encode() + b"\n":
            raise DamagedData(f"{place}: its digest is {sha256_bytes(data)}, it says {head!r}")
        return data

    def _append(self, start: int, data: bytes) -> None:
        assert self._known is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # A writer on this node is ahead of the store.
            file.write(data[max(self._size() - start, 0) :])
        self._known = self._known[0] + 1, start + len(data)
