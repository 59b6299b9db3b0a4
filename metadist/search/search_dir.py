"""Where a search lives, and what is written down of it.

    searches/NAME/{search.json, trials/0001.json, runs/trial-0001/, best.toml,
                   report.html, figures/, optuna.journal}

Trials are runs like any other. Nothing here is a pickle, so a search may be continued from a
directory that somebody else can write to: it is data.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from data_pipeline.errors import DataError
from data_pipeline.storage.local import locked, read_json, write_atomic
from data_pipeline.storage.typed_paths import typed_path
from metadist.discovery import explain
from metadist.errors import SpaceError
from metadist.runs.record import RecordDir, check_name, encode, record_facts
from metadist.runs.run_dir import RunDir
from metadist.space import Mode, Point

#: Under the runs directory.
FOLDER = "searches"
Status = Literal["running", "finished", "stopped", "failed"]
#: A trial's run; what is not so called is not touched, whatever a record says.
_RUN = re.compile(r"trial-\d{4,}(-round-\d+)?")
_Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial.

    Attributes:
        number: from 1.
        point: its values by ``section.key``.
        run: name of its run, under ``runs/``.
        status: ``stopped``: early, by the scheduler; ``failed``: it has no score.
        score: best on validation episodes; None if there is none.
        best_step: outer steps before the checkpoint that has it.
        steps, tasks: outer steps and tasks that it was trained for.
        error: why it failed.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    number: _Count
    point: Point
    run: Annotated[str, Field(pattern=f"^{_RUN.pattern}$")]
    status: Status
    score: Annotated[float, Field(strict=True, gt=-1e300, lt=1e300)] | None = None
    best_step: _Count = 0
    steps: _Count = 0
    tasks: _Count = 0
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.status != "running"


Trial = TypeVar("Trial", bound=TrialRecord)


@dataclass(frozen=True)
class SearchDir(RecordDir):
    """A search's directory."""

    RECORD = "search.json"
    KIND = "the directory of a search"
    ERROR = SpaceError
    #: The order of a space's keys decides the numbers of a grid, and conditions.
    SORTED = False

    @property
    def runs(self) -> Path:
        """Where the runs of its trials lie."""
        return self.path / "runs"

    @property
    def stop_files(self) -> Path:
        """Where a trial finds that it is to stop."""
        return self.path / "orders"

    @property
    def best(self) -> Path:
        """The recipe that was found."""
        return self.path / "best.toml"

    @property
    def journal(self) -> Path:
        """The search as Optuna's dashboard reads it."""
        return self.path / "optuna.journal"

    def run(self, name: str) -> RunDir:
        """One of its runs."""
        return RunDir(self.runs / name)

    def info(self) -> dict[str, Any]:
        """The contents of search.json.

        Raises:
            SpaceError: missing, damaged or of another format.
        """
        info = super().info()
        if not isinstance(info.get("created"), str):
            path = self.path / self.RECORD
            raise SpaceError(f"{path}: damaged: created: {info.get('created')!r}")
        return info

    def update(self, **fields: Any) -> dict[str, Any]:
        """Replace fields of search.json atomically."""
        return self.replace_info(**fields)

    def record_path(self, number: int) -> Path:
        """Where the record of a trial lies."""
        return self.path / "trials" / f"{number:04d}.json"

    def record(self, trial: TrialRecord) -> None:
        """Write down what is known of a trial."""
        path = self.record_path(trial.number)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, encode(asdict(trial), sort=False))

    def trials(self) -> list[TrialRecord]:
        """All trials that were begun, by number.

        Raises:
            SpaceError: a record is damaged.
        """
        sound, damaged = self.records()
        for path, why in damaged:
            raise SpaceError(
                f"{path}: damaged ({why}); it is made again from the trial's run when the search "
                f"goes on: metadist tune --resume {self.name}"
            )
        return sound

    def records(self) -> tuple[list[TrialRecord], list[tuple[Path, str]]]:
        """All trials that were begun, by number; and the records that are damaged, with why."""
        sound, damaged = [], []
        for path in (self.path / "trials").glob("[0-9]*.json"):
            try:
                sound.append(_read_record(path))
            except (DataError, OSError, ValueError) as error:
                damaged.append((path, str(error)))
        return sorted(sound, key=lambda t: t.number), sorted(damaged)

    def trial_runs(self) -> list[tuple[int, str]]:
        """Number and name of the runs that trials begin with."""
        names = (_FIRST.fullmatch(path.name) for path in self.runs.glob("trial-*"))
        return sorted((int(name[1]), name[0]) for name in names if name)

    def set_aside(self, path: Path) -> None:
        """Move a file or folder of this search to where nothing reads it; it is not deleted."""
        folder = self.path / "aside"
        folder.mkdir(exist_ok=True)
        for number in itertools.count(1):
            target = folder / f"{number}-{path.name}"
            if not target.exists():
                path.rename(target)
                return

    def set_run_aside(self, number: int, run: str) -> None:
        """Move a trial's run out of the way, and take back that it was to stop."""
        self.set_aside(self.run(run).path)
        (self.stop_files / f"{number:04d}").unlink(missing_ok=True)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Be the only one that drives this search, inside a block.

        Raises:
            SpaceError: somebody else does.
        """
        taken = SpaceError(f"{self.path}: another process is searching there")
        return locked(self.path / ".lock", taken)


_FIRST = re.compile(r"trial-(\d{4,})")
_RECORD = TypeAdapter(TrialRecord)


def _read_record(path: Path) -> TrialRecord:
    """Raises DataError, OSError or ValueError: somebody has altered it."""
    try:
        record = _RECORD.validate_python(read_json(path))
    except ValidationError as error:
        raise ValueError(explain(error, "record")) from None
    if path.name != f"{record.number:04d}.json":
        raise ValueError(f"number {record.number!r}")
    return record


def run_tags(name: str) -> dict[str, str]:
    """What a run of a search is, as tags for MLflow, from its name."""
    if _RUN.fullmatch(name):
        return {"trial": str(int(name.split("-")[1]))}
    return {"confirmation": name}


def ranked(trials: Sequence[Trial], mode: Mode) -> list[Trial]:
    """Trials with a score, the best first; of equals the one with fewer tasks, then the earlier."""
    scored = [t for t in trials if t.score is not None]
    return sorted(scored, key=lambda t: (rank(t.score, mode), t.tasks, t.number))


def rank(score: float | None, mode: Mode) -> tuple[bool, float]:
    """A key that sorts the best score first, and what has none (None, NaN) last."""
    if score is None or math.isnan(score):
        return True, 0.0
    return False, -score if mode == "max" else score


def best_so_far(scores: Sequence[float], mode: Mode) -> list[float]:
    """Of each score the best up to it; NaN until there is one."""
    best = np.fmax if mode == "max" else np.fmin
    return [float(score) for score in best.accumulate(np.asarray(scores, dtype=np.float64))]


def create_search(root: Path, name: str, facts: dict[str, Any]) -> SearchDir:
    """Make the directory of a new search.

    Args:
        root: the runs directory.

    Raises:
        SpaceError: the name is taken. RunError: it cannot be a directory's.
    """
    search = SearchDir(root / FOLDER / check_name(name))
    with search.making() as temporary:
        (temporary / "trials").mkdir()
        (temporary / "runs").mkdir()
        search.write_info({**record_facts(name, "running"), "result": None, **facts}, temporary)
    return search


def open_search(root: Path, name: str) -> SearchDir:
    """A search by its name under the runs directory, or by its path.

    Raises:
        SpaceError: there is none; the message lists what there is.
    """
    for path in (root / FOLDER / name, typed_path(name)):
        if (path / "search.json").is_file():
            return SearchDir(path.resolve())
    there = sorted(p.parent.name for p in (root / FOLDER).glob("[!.]*/search.json"))
    raise SpaceError(
        f"no search {name!r} under {root / FOLDER} or at that path; there are: "
        f"{', '.join(there[:10]) or 'none'}"
    )
