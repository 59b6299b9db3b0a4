"""A directory that says in one JSON document what it holds: what runs and searches share."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from data_pipeline.errors import DataError
from data_pipeline.storage.local import new_directory, read_json, write_atomic
from data_pipeline.storage.object_uri import address_of
from metadist.errors import MetadistError, RunError

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
#: What reading a file that is damaged, or that somebody has altered, may raise.
UNREADABLE = (
    MetadistError,
    DataError,
    OSError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    ArithmeticError,
)


def describe(error: BaseException) -> str:
    """An error for a message: what Python says of a missing key is the key alone."""
    bare = isinstance(error, (LookupError, AttributeError, TypeError))
    return f"{type(error).__name__}: {error}" if bare else str(error)


def encode(document: Any, *, sort: bool = True) -> bytes:
    """JSON as it stands in the files of runs and searches."""
    return json.dumps(document, sort_keys=sort, indent=1, allow_nan=False).encode()


def is_name(name: str) -> bool:
    """Whether a run or a search may be called so."""
    return bool(_NAME.fullmatch(name))


def check_name(name: str) -> str:
    """A name that can be a directory.

    Raises:
        RunError: it cannot.
    """
    if not is_name(name):
        raise RunError(
            f"--name {name!r}: letters, digits, '.', '_' and '-' are allowed, the first a letter "
            "or digit, at most 128 in all"
        )
    return name


def record_facts(name: str, status: str) -> dict[str, Any]:
    """How the record of something new begins."""
    return {
        "format": FORMAT,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "status": status,
    }


@dataclass(frozen=True)
class RecordDir:
    """A directory with a record.

    Attributes:
        RECORD: the record's file.
        KIND: what such a directory is called.
        ERROR: what is raised where it is wrong.
        SORTED: whether the record's keys are sorted.
    """

    path: Path

    RECORD: ClassVar[str]
    KIND: ClassVar[str]
    ERROR: ClassVar[type[MetadistError]]
    SORTED: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.name

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The report's figures, each a file of its own."""
        return self.path / "figures"

    def info(self) -> dict[str, Any]:
        """The record.

        Raises:
            RunError, SpaceError: missing, damaged or of another format.
        """
        path = self.path / self.RECORD
        try:
            info = read_json(path)
        except DataError as error:
            raise self.ERROR(f"{error}; not {self.KIND}, or damaged") from None
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise self.ERROR(f"{path}: format {FORMAT} expected")
        return info

    def write_info(self, info: dict[str, Any], directory: Path | None = None) -> None:
        """Write the record whole, atomically; to ``directory`` while this one is being made."""
        write_atomic((directory or self.path) / self.RECORD, encode(info, sort=self.SORTED))

    def replace_info(self, **fields: Any) -> dict[str, Any]:
        """Replace fields of the record; who calls sees to it that nobody else does."""
        info = {**self.info(), **fields}
        self.write_info(info)
        return info

    def taken(self) -> MetadistError:
        """That the name of something new is another's already."""
        return self.ERROR(
            f"{address_of(self.path)} exists already: choose another --name, or continue it with "
            f"--resume {self.name}"
        )

    @contextlib.contextmanager
    def making(self, *, replace: bool = False) -> Iterator[Path]:
        """Make the directory: its files are written into a temporary one, inside this block.

        Raises:
            RunError, SpaceError: the name is taken.
        """
        try:
            with new_directory(self.path, replace=replace) as temporary:
                yield temporary
        except OSError as error:
            if not self.path.exists():
                raise
            raise self.taken() from error
