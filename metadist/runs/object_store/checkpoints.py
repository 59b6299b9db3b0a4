"""Checkpoints in an object store, each below the prefix of the attempt that wrote it.

    checkpoints/step-%08d/NNNN-KEY/{state.safetensors, checkpoint.json}

The record is put last: without it a checkpoint does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.storage.local import new_directory, unseal_json
from data_pipeline.storage.objects import ObjectPlace
from metadist.errors import DamagedCheckpoint
from metadist.runs.object_store.claims import Claim, parse_claim
from metadist.runs.store import checkpoint_name, checkpoint_step

_STATE, _RECORD = "state.safetensors", "checkpoint.json"


class StoredCheckpoints:
    """The checkpoints of a run below a place."""

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place

    def writers(self) -> dict[int, list[Claim]]:
        """Steps with complete checkpoints, and the attempts they are of, the latest first."""
        found: dict[int, list[Claim]] = {}
        for step, claim, complete in self._prefixes():
            if complete:
                found.setdefault(step, []).append(claim)
        return {step: sorted(claims, reverse=True) for step, claims in found.items()}

    def _prefixes(self) -> Iterator[tuple[int, Claim, bool]]:
        names: dict[tuple[str, str], set[str]] = {}
        for found in self._place.objects():
            folder, _, rest = found.name.partition("/")
            writer, _, file = rest.partition("/")
            names.setdefault((folder, writer), set()).add(file)
        for (folder, writer), files in names.items():
            step, claim = checkpoint_step(folder), parse_claim(writer)
            if step is not None and claim:
                yield step, claim, _RECORD in files

    def _prefix(self, step: int, claim: Claim) -> ObjectPlace:
        return self._place / checkpoint_name(step) / claim.name

    def put(self, claim: Claim, step: int, directory: Path) -> None:
        """Put a checkpoint that lies in a directory."""
        place = self._prefix(step, claim)
        (place / _STATE).put_file(directory / _STATE)
        (place / _RECORD).put((directory / _RECORD).read_bytes())

    def get(self, step: int, directory: Path) -> bool:
        """Make the directory of a checkpoint anew; False if there is none of that step.

        Raises:
            DamagedCheckpoint: none of them is what was written; one is named.
        """
        problem: DataError | None = None
        for claim in self.writers().get(step, []):
            try:
                self._get(self._prefix(step, claim), directory)
                return True
            except (DamagedData, MissingData) as error:
                problem = error
        if problem is not None:
            raise DamagedCheckpoint(str(problem))
        return False

    def _get(self, place: ObjectPlace, directory: Path) -> None:
        record = (place / _RECORD).get()
        body = unseal_json(record, place / _RECORD)
        try:
            state = body["files"][_STATE]
            sha256, size = str(state["sha256"]), int(state["bytes"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedData(f"{place}: {error!r}") from None
        with new_directory(directory, replace=True) as temporary:
            (place / _STATE).get_file(temporary / _STATE, sha256, size)
            (temporary / _RECORD).write_bytes(record)

    def set_aside(self, good: int) -> None:
        """Let no checkpoint after step ``good`` count."""
        for step, claims in self.writers().items():
            for claim in claims if step > good else []:
                (self._prefix(step, claim) / _RECORD).delete()

    def prune(self, number: int, keep: int, best_step: int | None) -> None:
        """Remove all but the ``keep`` newest and the best, and what was cut off.

        Args:
            number: of the attempt; what earlier ones began and left is removed.
        """
        prefixes = list(self._prefixes())
        kept = set(sorted({step for step, _, complete in prefixes if complete})[-keep:])
        for step, claim, complete in prefixes:
            cut_off = not complete and claim.number < number
            if cut_off or (step not in kept and step != best_step):
                (self._prefix(step, claim) / _RECORD).delete()
                self._prefix(step, claim).delete_below()
        for step in {step for step, _, _ in prefixes} - kept - {best_step}:
            (self._place / checkpoint_name(step)).delete_below()
