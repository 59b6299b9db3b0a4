"""Who may write something in an object store, and what this node has got of it already."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError, MissingData
from data_pipeline.storage.local import read_json, sealed_json, unseal_json, write_atomic
from data_pipeline.storage.objects import ObjectPlace

#: Stores tell the time of an object in whole seconds: after a longer pause every other claim of the
#: same number that can still come is a later one.
SETTLE_SECONDS = 1.1
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
        """The record of a claim, else what was known when it was made; see :meth:`record_of`."""
        place = self._place / f"{claim.name}.claim"
        recorded = self.record_of(claim)
        return unseal_json(place.get(), place) if recorded is None else recorded

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


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if it is missing or none."""
    with contextlib.suppress(DataError):
        value = read_json(path)
        if isinstance(value, dict):
            return value
    return {}


class Copied:
    """A record of this node alone, ``.copied/<name>.json`` in a run directory."""

    def __init__(self, run: Path, name: str) -> None:
        self._path = run / ".copied" / f"{name}.json"

    def get(self, key: str) -> Any:
        """A field; None if it is not recorded."""
        return read_object(self._path).get(key)

    def set(self, **fields: Any) -> None:
        """Replace the record."""
        write_atomic(self._path, json.dumps(fields).encode())
