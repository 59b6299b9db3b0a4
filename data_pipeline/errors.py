"""Errors of the data pipeline that a user can act on.

Each message says what was demanded, what was got and how to mend it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

_NAMED = 8


class DataError(Exception):
    """Something about the data or the request for it is wrong; the message says how to mend it."""


class MissingData(DataError):
    """A dataset, store, shard or episode that was asked for is not there."""


class TooFew(DataError):
    """A part of a dataset has fewer classes, or images of a class, than an episode needs.

    Attributes:
        what: the same without the cure.
        of: ``classes`` or ``images``.
    """

    def __init__(self, what: str, of: Literal["classes", "images"], cure: str) -> None:
        super().__init__(what, of, cure)  # all of it: workers send errors
        self.what, self.of, self.cure = what, of, cure

    def __str__(self) -> str:
        return f"{self.what}; {self.cure}"


class DamagedData(DataError):
    """Bytes on disk are not the bytes that were written; the file is named."""


class UnsafeData(DataError):
    """Input that could run code, write outside its root or exhaust memory; refused."""


class StoreError(DataError):
    """An object store refuses what it is asked, or is named or set up wrongly."""


class StoreAway(StoreError):
    """An object store did not answer for as long as was waited."""


def listed(names: Iterable[str], between: str = ", ") -> str:
    """Names in a sentence: the first few, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return between.join(names[:_NAMED]) + more


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
