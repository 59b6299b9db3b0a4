"""Where a run is kept: in its directory alone, or in an object store that other nodes write to.

What lies in the directory decides. Where it is this node's working copy of a run in an object store
(:class:`metadist.runs.object_store.run.ObjectStoreRun`), what other nodes wrote is pulled before
anything is decided, and what is written here is pushed once it is on disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_pipeline.storage.local import locked, read_json, write_atomic
from metadist.errors import RunError
from metadist.runs.record import encode

_ATTEMPT = re.compile(r"(\d{4,})\.json")
_STEP = re.compile(r"step-(\d{8,})")


def checkpoint_name(step: int) -> str:
    """The directory of a step's checkpoint, below ``checkpoints``."""
    return f"step-{step:08d}"


def checkpoint_step(name: str) -> int | None:
    """The inverse of :func:`checkpoint_name`; None of any other name."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


class RunStore:
    """A run that is kept in its directory alone: there is nothing to pull and nowhere to push.

    Unless a method says otherwise, who calls it holds the lock that is named above it.

    Args:
        path: the run directory.
    """

    #: Whether other nodes may write to the run, each in a directory of its own.
    shared = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def locked(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Hold a lock of this run: ``info``, ``attempt`` or ``tracking``."""
        return locked(self.path / f".{what}.lock")

    # --- the whole run (no lock: they take theirs)

    def exists(self) -> bool:
        """Whether there is such a run, here or in the object store."""
        return (self.path / "run.json").is_file()

    def pull(self) -> bool:
        """Bring all but checkpoints up to date; False if there is no such run.

        Raises:
            DataError: the object store is away or refuses, or an object is damaged.
        """
        return self.exists()

    def pull_info(self) -> bool:
        """Bring run.json and recipe.toml up to date; False if there is no such run."""
        return self.exists()

    def pull_logs(self) -> None:
        """Bring what attempts have recorded and logged up to date."""

    def size(self) -> int:
        """Bytes of all its files, where they are kept; links count as what they are themselves."""
        return sum(path.lstat().st_size for path in self.path.rglob("*") if not path.is_dir())

    def remove(self) -> None:
        """Remove the run. What its directory links to stays.

        Raises:
            OSError: this user may not.
        """
        with self.locked("attempt"), self.locked("info"):
            # At once: who lists the runs, or writes to this one, must not meet a half of it.
            gone = self.path.with_name(f".deleted-{self.path.name}-{uuid.uuid4().hex[:8]}")
            self.path.rename(gone)
        shutil.rmtree(gone)

    # --- run.json and recipe.toml (lock: info)

    @contextlib.contextmanager
    def writing_info(
        self, check: Callable[[], None] = lambda: None, *, take_over: bool = False
    ) -> Iterator[None]:
        """Write both inside this block, which takes the lock and begins if ``check`` lets it.

        Args:
            take_over: let nobody go on who wrote them before.
        """
        with self.locked("info"):
            check()
            yield

    def create(self) -> None:
        """Push a new run (no lock); SupersededError if another has made one of its name."""

    # --- attempts and logs (lock: attempt)

    def latest_attempt(self) -> int:
        """The highest attempt number claimed so far; 0 if none (no lock)."""
        names = (_ATTEMPT.fullmatch(p.name) for p in (self.path / "attempts").glob("*.json"))
        return max((int(name[1]) for name in names if name), default=0)

    def attempt_path(self, number: int) -> Path:
        """Where an attempt's record lies."""
        return self.path / "attempts" / f"{number:04d}.json"

    def attempt_facts(self, number: int) -> dict[str, Any]:
        """What an attempt has recorded of itself (no lock).

        Raises:
            RunError, DataError: it is damaged.
        """
        facts = read_json(self.attempt_path(number))
        if not isinstance(facts, dict) or not isinstance(facts.get("sealed"), dict):
            raise RunError(f"{self.attempt_path(number)}: damaged")
        return facts

    def claim_attempt(self, facts: dict[str, Any]) -> int:
        """Claim the next number and seal the logs of earlier attempts at their present length.

        Raises:
            SupersededError: another process has claimed it at the same moment.
        """
        while True:
            number = self.latest_attempt() + 1
            document = {"attempt": number, "sealed": self.log_sizes(), **facts}
            if _create(self.attempt_path(number), document):
                return number

    def log_sizes(self) -> dict[str, int]:
        """Bytes of each attempt's log."""
        logs = (p for p in sorted((self.path / "log").glob("*.jsonl")) if p.is_file())
        return {p.name: p.stat().st_size for p in logs}

    def record_attempt(self, number: int, **facts: Any) -> None:
        """Add to what an attempt of this node has recorded of itself (no lock)."""
        document = {**self.attempt_facts(number), **facts}
        write_atomic(self.attempt_path(number), encode(document))

    def check_attempt(self, number: int) -> None:
        """Raise SupersededError if another node has claimed a later attempt."""

    def push_attempt(self, number: int, *documents: str) -> None:
        """Push what an attempt has logged, and documents that it has written."""

    def push_documents(self, *documents: str) -> None:
        """Push evaluations or a report as they are on disk."""

    # --- checkpoints (lock: attempt, for those that write)

    def checkpoints(self) -> list[int]:
        """Steps with a checkpoint, here or in the store, ascending; good or not."""
        steps = (checkpoint_step(p.name) for p in (self.path / "checkpoints").glob("step-*"))
        return sorted(step for step in steps if step is not None)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.path / "checkpoints" / checkpoint_name(step)

    def pull_checkpoint(self, step: int) -> bool:
        """Fetch the checkpoint of a step, whatever is here; False if there is none to fetch.

        Raises:
            DamagedCheckpoint: none of those in the store is what was written; one is named.
        """
        return False

    def push_checkpoint(self, number: int, step: int) -> None:
        """Push a checkpoint that an attempt has written."""

    def set_aside(self, number: int, good: int) -> None:
        """Let no checkpoint after step ``good`` count; attempt ``number`` says so."""
        for step in RunStore.checkpoints(self):  # those that are here
            if step > good:
                path = self.checkpoint_path(step)
                path.rename(path.with_name(f"damaged-{path.name}-{number:04d}"))

    def prune(self, number: int, keep: int, best_step: int | None) -> None:
        """Remove all but the ``keep`` newest checkpoints and the best, and what was cut off."""
        for step in RunStore.checkpoints(self)[:-keep]:
            if step != best_step:
                shutil.rmtree(self.checkpoint_path(step), ignore_errors=True)
        # Leftovers of writers that were killed before their rename.
        for partial in (self.path / "checkpoints").glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)


def _create(path: Path, document: dict[str, Any]) -> bool:
    """Create a file with its full content, atomically; False if it exists already."""
    whole = path.with_name(f".partial-{uuid.uuid4().hex}")
    write_atomic(whole, encode(document))
    try:
        os.link(whole, path)
    except FileExistsError:
        return False
    finally:
        whole.unlink()
    return True
