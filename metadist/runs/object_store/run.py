"""A run in an object store: its run directory is this node's working copy.

What other nodes have written is brought into it (``pull``); what was written here is put into the
store after it is on disk (``push``).
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_pipeline.errors import DamagedData
from data_pipeline.storage.local import read_json, write_atomic
from data_pipeline.storage.objects import ObjectPlace, object_place
from metadist.errors import RunError, SupersededError
from metadist.runs.object_store.bundles import DOCUMENTS, Document
from metadist.runs.object_store.checkpoints import StoredCheckpoints
from metadist.runs.object_store.claims import Claim, Claims, Copied, parse_claim, read_object
from metadist.runs.object_store.growing_file import GrowingFile
from metadist.runs.record import encode
from metadist.runs.store import RunStore

_MESSAGES = re.compile(r"messages-[0-9a-f]{32}\.txt")


class ObjectStoreRun(RunStore):
    """A run in an object store; see :class:`RunStore` for what its methods promise.

    Args:
        place: the run's objects.
        path: the working copy.
    """

    shared = True

    def __init__(self, place: ObjectPlace, path: Path) -> None:
        super().__init__(path)
        self.place = place
        self._info = Claims(place / "info")
        self._attempts = Claims(place / "attempts")
        self._logs: dict[str, GrowingFile] = {}
        self._checkpoints = StoredCheckpoints(place / "checkpoints")
        self._copied = Copied(path, "info")

    # --- the whole run

    def exists(self) -> bool:
        return self._newest_info() is not None

    def pull(self) -> bool:
        if not self.pull_info():
            return False
        with self.locked("attempt"):
            self._pull_attempts()
            for name in DOCUMENTS:
                Document(name, self.place, self.path).pull()
        return True

    def pull_logs(self) -> None:
        """Bring attempts, their logs and what workers on other nodes have to say."""
        with self.locked("attempt"):
            self._pull_attempts()
            for name in filter(_MESSAGES.fullmatch, (self.place / "messages").folders()):
                self._messages(name).pull()

    def pull_info(self) -> bool:
        """Bring run.json and recipe.toml; of a run that is not there no directory is made."""
        if not self.exists():
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked("info"):
            self._pull_info()
        return True

    def size(self) -> int:
        return sum(found.size for found in self.place.objects())

    def remove(self) -> None:
        """The record goes last: what is cut off can be given again."""
        for folder in self.place.folders():
            if folder != "info":
                (self.place / folder).delete_below()
        self.place.delete_below()
        if self.path.is_dir():
            super().remove()

    # --- run.json and recipe.toml (lock: info)

    @contextlib.contextmanager
    def writing_info(
        self, check: Callable[[], None] = lambda: None, *, take_over: bool = False
    ) -> Iterator[None]:
        with self.locked("info"):
            self._pull_info()
            check()
            if self._own_info(anew=take_over):
                # What the writer before put until it could see the claim still counts.
                self._pull_info()
            check()
            yield
            self._push_info()

    def create(self) -> None:
        self._own_info(anew=True)
        if self.exists():  # meanwhile
            raise SupersededError(f"{self.place}: another process has made the run")
        self._push_info()

    def _newest_info(self) -> dict[str, Any] | None:
        """What the latest writer has recorded; one that has only claimed has not."""
        for claim in reversed(self._info.winners()):
            body = self._info.record_of(claim)
            if body is not None:
                return body
        return None

    def _pull_info(self) -> None:
        body = self._newest_info()
        if body is None:
            return
        try:
            files = {"recipe.toml": str(body["recipe"]).encode(), "run.json": encode(body["info"])}
        except KeyError as error:
            raise DamagedData(f"{self.place}/info: a record has no {error}") from None
        for name, data in files.items():
            path = self.path / name
            if not path.is_file() or path.read_bytes() != data:
                write_atomic(path, data)

    def _own_info(self, *, anew: bool) -> bool:
        """Become the writer of run.json and recipe.toml; False if this node is already.

        Args:
            anew: become it again even then, so that nobody else of this node is.

        Raises:
            SupersededError: another process has become the writer at the same moment.
        """
        mine = self._own_claim()
        if mine is not None and not anew and self._info.winners()[-1:] == [mine]:
            return False
        # Whoever went before may write its last words just now; so far nobody else has begun.
        mine = next(filter(None, (self._info.claim({}) for _ in range(3 if anew else 1))), None)
        if mine is None:
            raise SupersededError(
                f"{self.place}: another process has taken over the run; this one stops without "
                "writing to it"
            )
        self._copied.set(claim=mine.name)
        return True

    def _push_info(self) -> None:
        mine = self._own_claim()
        if mine is None:
            raise RunError(f"{self.path}: this node is not the writer of run.json")
        body = {
            "info": read_json(self.path / "run.json"),
            "recipe": (self.path / "recipe.toml").read_text(encoding="utf-8"),
        }
        self._info.record(mine, body)

    def _own_claim(self) -> Claim | None:
        return parse_claim(str(self._copied.get("claim")))

    # --- attempts and logs (lock: attempt)

    def _pull_attempts(self) -> None:
        winners = self._attempts.winners()
        for claim in winners:
            path = self.attempt_path(claim.number)
            there = read_object(path)
            if there.get("key") != claim.key:
                # A claim that another has beaten is none, and its log does not count.
                (self.path / "log" / f"{claim.number:04d}.jsonl").unlink(missing_ok=True)
                self._logs.pop(claim.name, None)
            if there.get("key") != claim.key or claim == winners[-1]:
                facts = {**self._attempts.read(claim), "key": claim.key}
                if facts != there:
                    write_atomic(path, encode(facts))
            if claim in winners[-2:] or claim.name not in self._logs:
                self._log(claim).pull()  # others do not grow any more

    def claim_attempt(self, facts: dict[str, Any]) -> int:
        """Claim the next number; what this node has written and not put yet is put first."""
        self._pull_attempts()
        for claim in self._attempts.winners():
            if self._key(claim.number) == claim.key:
                self._log(claim).push()
        mine = self._attempts.claim({**facts, "sealed": {}})
        if mine is None:
            raise SupersededError(
                f"{self.place}: another process claimed an attempt at the same moment; this one "
                "stops without writing"
            )
        # What an earlier attempt put until it could see the claim still counts.
        self._pull_attempts()
        self.record_attempt(mine.number, attempt=mine.number, sealed=self.log_sizes())
        return mine.number

    def record_attempt(self, number: int, **facts: Any) -> None:
        super().record_attempt(number, **facts)
        document = self.attempt_facts(number)
        self._attempts.record(Claim(number, document["key"]), document)

    def check_attempt(self, number: int) -> None:
        latest = self._attempts.winners()[-1:]
        if latest != [self._claim(number)]:
            raise SupersededError(
                f"{self.place}: attempt {latest[0].number if latest else 0} has taken over from "
                f"attempt {number}; this process stops without writing"
            )

    def push_attempt(self, number: int, *documents: str) -> None:
        """Put what an attempt of this node, and its workers, have logged; then documents."""
        self._log(self._claim(number)).push()
        for path in sorted((self.path / "log").glob("messages-*.txt")):
            self._messages(path.name).push()
        self.push_documents(*documents)

    def _claim(self, number: int) -> Claim:
        return Claim(number, self._key(number))

    def _key(self, number: int) -> str:
        """Whose attempt is on disk under this number."""
        return str(read_object(self.attempt_path(number)).get("key"))

    def _messages(self, name: str) -> GrowingFile:
        file = GrowingFile(self.place / "messages" / name, self.path / "log" / name)
        return self._logs.setdefault(name, file)

    def _log(self, claim: Claim) -> GrowingFile:
        path = self.path / "log" / f"{claim.number:04d}.jsonl"
        place = self.place / "log" / claim.name
        return self._logs.setdefault(claim.name, GrowingFile(place, path))

    def push_documents(self, *documents: str) -> None:
        for name in documents:
            Document(name, self.place, self.path).push()

    # --- checkpoints (lock: attempt, for those that write)

    def checkpoints(self) -> list[int]:
        return sorted({*super().checkpoints(), *self._checkpoints.writers()})

    def push_checkpoint(self, number: int, step: int) -> None:
        self.push_attempt(number)  # no checkpoint before the log of its steps
        self._checkpoints.put(self._claim(number), step, self.checkpoint_path(step))

    def pull_checkpoint(self, step: int) -> bool:
        return self._checkpoints.get(step, self.checkpoint_path(step))

    def set_aside(self, number: int, good: int) -> None:
        self._checkpoints.set_aside(good)
        super().set_aside(number, good)

    def prune(self, number: int, keep: int, best_step: int | None) -> None:
        self._checkpoints.prune(number, keep, best_step)
        super().prune(number, keep, best_step)


_object_store_run = functools.lru_cache(maxsize=64)(ObjectStoreRun)


def run_store(path: Path) -> RunStore:
    """Where the run of a directory is kept."""
    place = object_place(path)
    return RunStore(path) if place is None else _object_store_run(place, path)


def names_in_store(root: Path) -> list[str]:
    """Names of what an object store has below a working copy's directory; any names."""
    place = object_place(root)
    return [] if place is None else place.folders()
