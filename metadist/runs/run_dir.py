"""The run directory: what a run is, who may write to it, and where its parts lie.

    runs/NAME/{run.json, recipe.toml, attempts/, log/, checkpoints/, evaluation/, report.html}

A run has one writer at a time. Every start claims the next attempt number by an atomic create and
seals the logs of earlier attempts at their length of that moment; an attempt that is no longer the
highest stops before its next commit. Likewise run.json names its driver by a key, and a driver
whose key stands there no more does not write it.

A run directory may be this node's working copy of a run in an object store: then what other nodes
wrote is brought before anything is decided, and what is written here is put there as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.storage.local import read_json, write_atomic
from metadist.errors import MetadistError, RunError, SupersededError
from metadist.recipe.schema import Recipe, parse_recipe
from metadist.runs.object_store import RemoteRun, remote_run

FORMAT = 1
#: What reading a directory that is damaged, or that somebody has altered, may raise.
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
_ATTEMPT = re.compile(r"(\d{4,})\.json")


def in_words(error: BaseException) -> str:
    """Such an error for a message: what Python says of a missing key is the key alone."""
    bare = isinstance(error, (LookupError, AttributeError, TypeError))
    return f"{type(error).__name__}: {error}" if bare else str(error)


@dataclass(frozen=True)
class RunDir:
    """A run directory that exists."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """Where results on fixed episodes lie."""
        return self.path / "evaluation"

    @property
    def log(self) -> Path:
        """Where metric logs lie, one file per attempt."""
        return self.path / "log"

    @property
    def attempts(self) -> Path:
        """Where attempt numbers are claimed."""
        return self.path / "attempts"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The report's figures, each a file of its own."""
        return self.path / "figures"

    @property
    def remote(self) -> RemoteRun | None:
        """The run in an object store that this directory is a working copy of, if it is one."""
        return remote_run(self.path)

    def pull(self) -> bool:
        """Bring a working copy up to date, but for checkpoints; False if there is no such run.

        Raises:
            DataError: the object store is away or refuses, or an object is damaged.
        """
        if self.remote is None:
            return (self.path / "run.json").is_file()
        if not self.remote.exists():
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked("info"):
            self.remote.bring_info()
        with self.locked("attempt"):
            self.remote.bring_attempts()
            self.remote.bring_documents()
        return True

    def bring_info(self) -> None:
        """Bring run.json and recipe.toml of a working copy up to date, if the store has them."""
        if self.remote is not None and self.remote.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            with self.locked("info"):
                self.remote.bring_info()

    def bring_logs(self) -> None:
        """Bring what attempts have recorded and logged to a working copy."""
        if self.remote is not None:
            with self.locked("attempt"):
                self.remote.bring_attempts()
                self.remote.bring_messages()

    def put_document(self, what: str) -> None:
        """Put a report or an evaluation that is on disk into the object store, if there is one."""
        if self.remote is not None:
            with self.locked("attempt"):
                self.remote.push_document(what)

    def info(self) -> dict[str, Any]:
        """The contents of run.json.

        Raises:
            RunError: missing, damaged or of another format.
        """
        try:
            info = read_json(self.path / "run.json")
        except DataError as error:
            raise RunError(f"{error}; not a run directory, or damaged") from None
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise RunError(f"{self.path}/run.json: format {FORMAT} expected")
        return info

    def update(self, **fields: Any) -> dict[str, Any]:
        """Replace fields of run.json atomically; a driver that trains uses :class:`Driver`."""
        with self._writing_info():
            info = {**self.info(), **fields}
            write_info(self.path, info)
        return info

    @contextlib.contextmanager
    def _writing_info(
        self, check: Callable[[], None] = lambda: None, *, take_over: bool = False
    ) -> Iterator[None]:
        """Write run.json or recipe.toml inside this block, which begins if ``check`` lets it."""
        with self.locked("info"):
            if self.remote is not None:
                self.remote.bring_info()
                check()
                if self.remote.own_info(anew=take_over):
                    # What the writer before put until it could see the claim still counts.
                    self.remote.bring_info()
            check()
            yield
            if self.remote is not None:
                self.remote.push_info()

    def drive(self, **fields: Any) -> Driver:
        """Become the driver of this run, whoever was it before, and replace fields of run.json."""
        driver = Driver(self, uuid.uuid4().hex)
        with self._writing_info(take_over=True):
            write_info(self.path, {**self.info(), **fields, "driver": driver.key})
        return driver

    @contextlib.contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Hold a lock of this run: ``info``, ``attempt`` or ``tracking``. The dead hold none."""
        with (self.path / f".{what}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def recipe(self) -> Recipe:
        """The resolved recipe of the run.

        Raises:
            RunError: missing. RecipeError: damaged.
        """
        path = self.path / "recipe.toml"
        if not path.is_file():
            raise RunError(f"{path}: missing")
        return parse_recipe(path.read_text(encoding="utf-8"), str(path))

    def set_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe (an explicit resume may add outer steps)."""
        with self._writing_info():
            write_atomic(self.path / "recipe.toml", recipe.to_toml().encode())

    def latest_attempt(self) -> int:
        """The highest attempt number claimed so far; 0 if none."""
        if not self.attempts.is_dir():
            return 0
        names = (_ATTEMPT.fullmatch(p.name) for p in self.attempts.iterdir())
        return max((int(name[1]) for name in names if name), default=0)

    def claim(self, facts: dict[str, Any]) -> Attempt:
        """Become the writer of this run.

        Args:
            facts: what to record of this attempt (world size, numerics).
        """
        self.attempts.mkdir(exist_ok=True)
        # Under the lock that every commit takes: nothing is written between seal and claim.
        with self.locked("attempt"):
            if self.remote is not None:
                self.remote.bring_attempts()
                number = self.remote.claim_attempt(facts).number
                attempt = Attempt(self, number)
                attempt.record(attempt=number, sealed=self._log_sizes())
                return attempt
            while True:
                number = self.latest_attempt() + 1
                document = {"attempt": number, "sealed": self._log_sizes(), **facts}
                if _create(self.attempts / f"{number:04d}.json", document):
                    return Attempt(self, number)

    def _log_sizes(self) -> dict[str, int]:
        logs = (p for p in sorted(self.log.glob("*.jsonl")) if p.is_file())
        return {p.name: p.stat().st_size for p in logs}

    def attempt_facts(self, number: int) -> dict[str, Any]:
        """What an attempt recorded when it started."""
        path = self.attempts / f"{number:04d}.json"
        facts = read_json(path)
        if not isinstance(facts, dict) or not isinstance(facts.get("sealed"), dict):
            raise RunError(f"{path}: damaged")
        return facts


@dataclass(frozen=True)
class Driver:
    """The right to write a run's record, until another driver takes it.

    A driver takes it before its workers claim an attempt, which may be many seconds: whoever went
    before must not write in between that the run has ended.

    Attributes:
        key: under ``driver`` in run.json as long as this driver has the right.
    """

    run: RunDir
    key: str | None

    def update(self, **fields: Any) -> None:
        """Replace fields of run.json atomically.

        Raises:
            SupersededError: another driver has taken over; nothing is written.
        """
        with self.run._writing_info(self._check):
            write_info(self.run.path, {**self.run.info(), **fields})

    def _check(self) -> None:
        if self.run.info().get("driver") != self.key:
            raise SupersededError(
                f"{self.run.path}: another driver has taken over the run; this process stops "
                "without writing to it"
            )


@dataclass(frozen=True)
class Attempt:
    """The right to write to a run, until a later attempt takes it."""

    run: RunDir
    number: int

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Write to this node's disk inside this block; see :meth:`commit` for all others.

        Raises:
            SupersededError: a later attempt has been claimed.
        """
        with self.run.locked("attempt"):
            self.check()
            yield

    @contextlib.contextmanager
    def commit(self, *documents: str) -> Iterator[RemoteRun | None]:
        """Write inside this block: no later attempt can take over before it ends.

        Args:
            documents: what is written that an object store keeps as one.

        Yields:
            The object store's half of the run, for what else is to be put there after it is on
            disk; None if there is none.

        Raises:
            SupersededError: a later attempt has been claimed.
        """
        remote = self.run.remote
        with self.held():
            if remote is not None:
                remote.check_attempt(self.number)
            yield remote
            if remote is not None:
                remote.push_log(self.number)
                for document in documents:
                    remote.push_document(document)

    def record(self, **facts: Any) -> None:
        """Add to what this attempt has recorded of itself."""
        document = {**self.run.attempt_facts(self.number), **facts}
        path = self.run.attempts / f"{self.number:04d}.json"
        write_atomic(path, json.dumps(document, sort_keys=True, indent=1).encode())
        if self.run.remote is not None:
            self.run.remote.record_attempt(self.number, document)

    def append(self, path: Path, text: str) -> None:
        """Append to a file of this attempt alone, durably; the next commit puts it elsewhere too.

        Raises:
            SupersededError: a later attempt has been claimed.
        """
        with self.held(), path.open("a") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())

    def check(self) -> None:
        """Raise unless this is still the latest attempt.

        Raises:
            SupersededError: a later attempt has been claimed.
        """
        latest = self.run.latest_attempt()
        if latest != self.number:
            raise SupersededError(
                f"{self.run.path}: attempt {latest} has taken over from attempt {self.number}; "
                "this process stops without writing"
            )


def _create(path: Path, document: dict[str, Any]) -> bool:
    """Create a file with its full content, atomically; False if it exists already."""
    descriptor, name = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as handle:
            json.dump(document, handle, sort_keys=True, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()
    return True


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Write the ``run.json`` of a directory whole."""
    text = json.dumps(info, sort_keys=True, indent=1, allow_nan=False)
    write_atomic(path / "run.json", text.encode())
