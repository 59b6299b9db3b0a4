"""The run directory: what a run is, who may write to it, and where its parts lie.

    runs/NAME/{run.json, recipe.toml, attempts/, log/, checkpoints/, evaluation/, report.html}

A run has one writer at a time. Every start claims the next attempt number by an atomic create and
seals the logs of earlier attempts at their length of that moment; an attempt that is no longer the
highest stops before its next commit. Likewise run.json names its driver by a key, and a driver
whose key stands there no more does not write it.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.storage.local import write_atomic
from metadist.errors import RunError, SupersededError
from metadist.recipe.schema import Recipe, parse_recipe
from metadist.runs.object_store.run import run_store
from metadist.runs.record import RecordDir
from metadist.runs.store import RunStore


@dataclass(frozen=True)
class RunDir(RecordDir):
    """A run directory that exists."""

    RECORD = "run.json"
    KIND = "a run directory"
    ERROR = RunError

    @property
    def evaluation(self) -> Path:
        """Where results on fixed episodes lie."""
        return self.path / "evaluation"

    @property
    def log(self) -> Path:
        """Where metric logs lie, one file per attempt."""
        return self.path / "log"

    @property
    def store(self) -> RunStore:
        """Where the run is kept, and how what others wrote comes here."""
        return run_store(self.path)

    def pull(self) -> bool:
        """Bring a working copy up to date, see :meth:`RunStore.pull`; False without a run."""
        return self.store.pull()

    def push_report(self) -> None:
        """Let others have the report that is on disk."""
        with self.store.locked("attempt"):
            self.store.push_documents("report")

    def update(self, **fields: Any) -> dict[str, Any]:
        """Replace fields of run.json atomically; a driver that trains uses :class:`Driver`."""
        with self.store.writing_info():
            return self.replace_info(**fields)

    def drive(self, **fields: Any) -> Driver:
        """Become the driver of this run, whoever was it before, and replace fields of run.json."""
        driver = Driver(self, uuid.uuid4().hex)
        with self.store.writing_info(take_over=True):
            self.replace_info(**fields, driver=driver.key)
        return driver

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
        with self.store.writing_info():
            write_atomic(self.path / "recipe.toml", recipe.to_toml().encode())

    def latest_attempt(self) -> int:
        """The highest attempt number claimed so far; 0 if none."""
        return self.store.latest_attempt()

    def attempt_facts(self, number: int) -> dict[str, Any]:
        """What an attempt has recorded of itself; raises RunError or DataError if damaged."""
        return self.store.attempt_facts(number)

    def claim(self, facts: dict[str, Any]) -> Attempt:
        """Become the writer of this run.

        Args:
            facts: what to record of this attempt (world size, numerics).
        """
        # Under the lock that every commit takes: nothing is written between seal and claim.
        with self.store.locked("attempt"):
            return Attempt(self, self.store.claim_attempt(facts))


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
        with self.run.store.writing_info(self._check):
            self.run.replace_info(**fields)

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
        with self.run.store.locked("attempt"):
            self.check()
            yield

    @contextlib.contextmanager
    def commit(self, *documents: str) -> Iterator[None]:
        """Write inside this block: no later attempt can take over before it ends.

        Args:
            documents: what is written that an object store keeps as one.

        Raises:
            SupersededError: a later attempt has been claimed.
        """
        with self.held():
            self.run.store.check_attempt(self.number)
            yield
            self.run.store.push_attempt(self.number, *documents)

    def record(self, **facts: Any) -> None:
        """Add to what this attempt has recorded of itself."""
        self.run.store.record_attempt(self.number, **facts)

    def append(self, path: Path, text: str) -> None:
        """Append to a file of this attempt alone, durably; the next commit puts it elsewhere too.

        Raises SupersededError as :meth:`held` does.
        """
        with self.held(), path.open("a") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())

    def check(self) -> None:
        """Raise SupersededError unless this is still the latest attempt."""
        latest = self.run.latest_attempt()
        if latest != self.number:
            raise SupersededError(
                f"{self.run.path}: attempt {latest} has taken over from attempt {self.number}; "
                "this process stops without writing"
            )
