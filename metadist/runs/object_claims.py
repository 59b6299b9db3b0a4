"""What an object store needs to be written by several: claims, bundles and growing files.

Objects are put whole and never renamed, and no put depends on what is there. So everything has a
prefix or key of its own writer, and all who read decide by one rule what counts.
"""

from __future__ import annotations

import functools
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import DamagedData, MissingData
from data_pipeline.storage.local import inside, sealed_json, sha256_bytes, sha256_file, unseal_json
from data_pipeline.storage.objects import ObjectPlace, in_parallel

#: Stores tell the time of an object in whole seconds: after a longer pause every other claim of the
#: same number that can still come is a later one.
SETTLE_SECONDS = 1.1
#: Ends a bundle: names, sizes and digests of its files.
MARKER = "bundle.json"
_NAME = re.compile(r"(\d{4,})-([0-9a-f]{32})")


@dataclass(frozen=True, order=True)
class Claim:
    """The right to write something, by number; ``key`` is of one claimant alone."""

    number: int
    key: str

    @property
    def name(self) -> str:
        """How objects of this claimant are called."""
        return f"{self.number:04d}-{self.key}"


def parse_claim(name: str) -> Claim | None:
    """The inverse of :attr:`Claim.name`."""
    match = _NAME.fullmatch(name)
    return Claim(int(match[1]), match[2]) if match else None


class Claims:
    """Numbered claims below a place, each with a record that its claimant alone writes.

    ``NNNN-KEY.claim`` is put once; of several with one number the one that the store received first
    counts. ``NNNN-KEY.json`` is the record.
    """

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place

    def winners(self) -> list[Claim]:
        """The claim that counts of each number, ascending."""
        first: dict[int, tuple[float, Claim]] = {}
        for found in self._place.objects():
            stem, _, kind = found.name.rpartition(".")
            claim = parse_claim(stem)
            if claim is None or kind != "claim":
                continue
            mine = (found.time, claim)
            first[claim.number] = min(first.get(claim.number, mine), mine)
        return [first[number][1] for number in sorted(first)]

    def claim(self, body: Mapping[str, Any]) -> Claim | None:
        """Claim the next number; None if somebody else has got it, or a higher one, meanwhile.

        Args:
            body: what is known now; read where there is no record.
        """
        there = self.winners()
        mine = Claim(there[-1].number + 1 if there else 1, uuid.uuid4().hex)
        (self._place / f"{mine.name}.claim").put(sealed_json(dict(body)))
        time.sleep(SETTLE_SECONDS)
        return mine if self.winners()[-1:] == [mine] else None

    def record(self, claim: Claim, body: Mapping[str, Any]) -> None:
        """Replace the record of a claim of one's own."""
        (self._place / f"{claim.name}.json").put(sealed_json(dict(body)))

    def read(self, claim: Claim) -> dict[str, Any]:
        """The record of a claim, else what was known when it was made.

        Raises:
            DamagedData: it is not what was written; the object is named.
        """
        recorded = self.record_of(claim)
        if recorded is not None:
            return recorded
        place = self._place / f"{claim.name}.claim"
        return unseal_json(place.get(), place)

    def record_of(self, claim: Claim) -> dict[str, Any] | None:
        """The record of a claim; None if there is none yet.

        Raises:
            DamagedData: it is not what was written; the object is named.
        """
        place = self._place / f"{claim.name}.json"
        try:
            return unseal_json(place.get(), place)
        except MissingData:
            return None


class Bundles:
    """Sets of files below a place, each under a prefix of its own; the highest number counts."""

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place

    def newest(self) -> Claim | None:
        """The bundle that counts; one without its marker is not complete and does not."""
        names = (found.name.partition("/") for found in self._place.objects())
        complete = (parse_claim(folder) for folder, _, file in names if file == MARKER)
        return max((claim for claim in complete if claim), default=None)

    def put(self, root: Path, files: list[str]) -> Claim:
        """Put files, given relative to ``root``, as the bundle that counts; remove older ones."""
        before = self.newest()
        bundle = Claim(before.number + 1 if before else 1, uuid.uuid4().hex)
        place = self._place / bundle.name
        listed = {
            name: {"sha256": sha256_file(root / name), "bytes": (root / name).stat().st_size}
            for name in files
        }
        in_parallel([functools.partial((place / n).put_file, root / n) for n in files])
        (place / MARKER).put(sealed_json({"files": listed}))
        for name in self._place.folders():
            other = parse_claim(name)
            if other is not None and other < bundle:
                (self._place / name / MARKER).delete()
                (self._place / name).delete_below()
        return bundle

    def get(self, bundle: Claim, directory: Path) -> list[str]:
        """Write a bundle's files below a directory; their names.

        Raises:
            DamagedData, MissingData: an object is not what was put; it is named.
            UnsafeData: a name leads out of the directory.
        """
        place = self._place / bundle.name
        marker = unseal_json((place / MARKER).get(), place / MARKER)
        calls = []
        try:
            for name, file in marker["files"].items():
                target = inside(directory, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                sha256, size = str(file["sha256"]), int(file["bytes"])
                calls.append(functools.partial((place / name).get_file, target, sha256, size))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedData(f"{place / MARKER}: not a list of files ({error!r})") from None
        in_parallel(calls)
        return list(marker["files"])


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

    def _count(self) -> tuple[int, int]:
        if self._known is None:
            held = self._place.objects()
            self._known = len(held), sum(found.size - _HEAD for found in held)
        return self._known

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def push(self) -> None:
        """Put what the file has and the store has not."""
        count, length = self._count()
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
        for data in in_parallel([functools.partial(self._segment, n) for n in wanted]):
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
