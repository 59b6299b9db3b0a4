"""Who may write something in an object store, and what this node has got of it already."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError, MissingData
from data_pipeline.storage.local import read_json, sealed_json, unseal_json, write_atomic
from data_pipeline.storage.objects import Found, ObjectPlace

_NAME = re.compile(r"(\d{4,})-([0-9a-f]{32})")
_NUMBER = re.compile(r"\d{4,}")


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

    ``NNNN.claim`` is made where there is none: the store lets one claimant succeed.
    ``NNNN-KEY.json`` is the record. Older runs have claims ``NNNN-KEY.claim``; of several with one
    number the one that the store received first counts.
    """

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place
        self._made: dict[Found, Claim] = {}

    def winners(self) -> list[Claim]:
        """The claim that counts of each number, ascending."""
        first: dict[int, tuple[float, Claim]] = {}
        for found in self._place.objects():
            stem, _, kind = found.name.rpartition(".")
            claim, time = parse_claim(stem), found.time
            if kind == "claim" and _NUMBER.fullmatch(stem):
                claim, time = self._maker(found, int(stem)), float("-inf")
            if kind == "claim" and claim is not None:
                first[claim.number] = min(first.get(claim.number, (time, claim)), (time, claim))
        return [first[number][1] for number in sorted(first)]

    def _maker(self, found: Found, number: int) -> Claim:
        if found not in self._made:
            place = self._place / found.name
            self._made[found] = Claim(number, str(unseal_json(place.get(), place).get("key")))
        return self._made[found]

    def claim(self, body: Mapping[str, Any]) -> Claim | None:
        """Claim the next number; None if somebody else has got it meanwhile.

        Args:
            body: what is known now; read where there is no record.
        """
        there = self.winners()
        mine = Claim(there[-1].number + 1 if there else 1, uuid.uuid4().hex)
        place = self._place / f"{mine.number:04d}.claim"
        return mine if place.create(sealed_json({**body, "key": mine.key})) else None

    def record(self, claim: Claim, body: Mapping[str, Any]) -> None:
        """Replace the record of a claim of one's own."""
        (self._place / f"{claim.name}.json").put(sealed_json(dict(body)))

    def read(self, claim: Claim) -> dict[str, Any]:
        """The record of a claim, else what was known when it was made; see :meth:`record_of`."""
        recorded = self.record_of(claim)
        if recorded is not None:
            return recorded
        place = self._place / f"{claim.number:04d}.claim"
        with contextlib.suppress(MissingData):
            return unseal_json(place.get(), place)
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
