"""What there is under a runs directory: facts of each run, those that are meant, what may go."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from metadist.discovery import nearest
from metadist.errors import RunError
from metadist.objectives import BUILT_IN, Metric
from metadist.runs.listing import list_runs
from metadist.runs.log import LogReader
from metadist.runs.readers.evaluations import described_in
from metadist.runs.record import UNREADABLE, check_name
from metadist.runs.run_dir import RunDir

#: Seconds after the last sign of life within which a run that has not ended is at work.
AT_WORK_SECONDS = 600.0
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: Facts that runs are filtered and sorted by, beside the keys of their recipes.
FACTS = ("name", "status", "created", "algorithm", "dataset", "network", "steps", "score", "size")


@dataclass(frozen=True)
class Listed:
    """A run of a list.

    Attributes:
        info: run.json.
        recipe: every key of it, as ``section.key``; empty if it cannot be read.
        size: bytes, where they are kept.
    """

    run: RunDir
    info: Mapping[str, Any]
    recipe: Mapping[str, Any]
    size: int

    @classmethod
    def of(cls, run: RunDir) -> Listed:
        """Read a run.

        Raises:
            RunError: its record is damaged.
        """
        recipe: dict[str, Any] = {}
        with contextlib.suppress(*UNREADABLE):
            sections = run.recipe().model_dump(mode="json")
            recipe = {f"{s}.{key}": v for s, keys in sections.items() for key, v in keys.items()}
        return cls(run, run.info(), recipe, run.store.size())

    @cached_property
    def metric(self) -> Metric | None:
        """What its result is measured by, if it has one."""
        described = self.info.get("metrics") or {}
        names = (n for n in self.info.get("result") or {} if n in described or n in BUILT_IN)
        name = next(names, None)
        return None if name is None else described_in(self.info, name)

    @property
    def made(self) -> datetime:
        """When; 1970 if nobody knows."""
        try:
            found = datetime.fromisoformat(str(self.info.get("created")))
        except ValueError:
            return _LONG_AGO
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def document(self) -> dict[str, Any]:
        """Facts of it, JSON-able."""
        result = self.info.get("result") or {}
        metric = self.metric
        return {
            "name": self.run.name,
            "status": self.info.get("status"),
            "created": self.info.get("created"),
            "algorithm": self.recipe.get("algorithm.name"),
            "dataset": self.recipe.get("data.dataset"),
            "network": self.recipe.get("model.name"),
            "steps": result.get("steps"),
            "metric": metric.name if metric else None,
            "score": result.get(metric.name) if metric else None,
            "ci95": result.get("ci95") if metric else None,
            "size": self.size,
            "directory": str(self.run.path),
            "mlflow": self.info.get("mlflow"),
        }

    def at_work(self) -> bool:
        """Whether somebody may be training it: it has not ended, and has been heard of lately."""
        if self.info.get("status") not in ("created", "running"):
            return False
        moments = [self.made.timestamp()]
        if self.run.store.shared:
            with contextlib.suppress(*UNREADABLE):
                self.run.store.pull_logs()
                moments += [point.time / 1000 for point in LogReader(self.run).poll()[-1:]]
        else:
            files = (self.run.path / "run.json", *self.run.log.glob("*"))
            moments += [path.stat().st_mtime for path in files if path.is_file()]
        return time.time() - max(moments) < AT_WORK_SECONDS


def select(
    root: Path, filters: Sequence[str] = (), since: str | None = None, sort: str = "-created"
) -> list[Listed]:
    """The runs under a directory that are meant.

    Args:
        filters: ``KEY=VALUE``, all of which must hold: a fact (:data:`FACTS`) or a key of the
            recipe, and its value, in which ``*`` stands for anything.
        since: made so long ago at most (``90m``, ``12h``, ``7d``, ``2w``), or on that date or
            after it.
        sort: a fact; ``-`` before it turns the order round. What has none comes last.

    Raises:
        RunError: one of them cannot be understood.
    """
    wanted = [_filter(text) for text in filters]
    first = _since(since)
    key = sort.removeprefix("-")
    if key not in FACTS:
        raise RunError(f"--sort {sort}: one of {', '.join(FACTS)}.{nearest(key, FACTS)}")
    found = [Listed.of(run) for run in dict.fromkeys(list_runs(root))]
    known = {*FACTS, *(key for one in found for key in one.recipe)}
    for name, _ in wanted:
        if name not in known and found:
            raise RunError(f"--filter {name}=…: there is no such key.{nearest(name, known)}")
    kept = [
        one
        for one in found
        if one.made >= first
        and all(_fits({**one.recipe, **one.document()}.get(k), v) for k, v in wanted)
    ]
    there = [one for one in kept if one.document()[key] is not None]
    there.sort(key=lambda one: one.document()[key], reverse=sort.startswith("-"))
    return [*there, *(one for one in kept if one.document()[key] is None)]


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise RunError(f"--filter {text!r}: KEY=VALUE is needed, as status=finished")
    return key.strip(), value.strip()


def _fits(value: Any, wanted: str) -> bool:
    text = value if isinstance(value, str) else json.dumps(value)
    return fnmatch.fnmatchcase(text, wanted)


def _since(text: str | None) -> datetime:
    if text is None:
        return _LONG_AGO
    if match := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise RunError(
            f"--since {text!r}: 90m, 12h, 7d, 2w or a date as 2026-01-31 is needed"
        ) from None


def named(root: Path, names: Iterable[str]) -> list[Listed]:
    """Runs by their names, never by a path.

    Raises:
        RunError: there is none of such a name.
    """
    found = []
    for name in dict.fromkeys(names):
        run = RunDir(root / check_name(name))
        if not run.store.pull_info():
            raise RunError(f"no run {name!r} under {root}")
        found.append(Listed.of(run))
    return found


def kept_by(root: Path, chosen: Sequence[Listed]) -> dict[str, str]:
    """Why runs may not be deleted, by name: those that are at work, or that something needs."""
    going, home = {one.run.name for one in chosen}, root.resolve()
    reasons: dict[str, str] = {}
    if (home.parent / "search.json").is_file():
        return dict.fromkeys(
            going, f"the search {home.parent} is made of it; remove that as a whole"
        )
    for one in chosen:
        if one.run.path.is_symlink() or one.run.path.resolve().parent != home:
            reasons[one.run.name] = f"it is a link to {one.run.path.resolve()}; remove the link"
        elif one.at_work():
            reasons[one.run.name] = (
                "it is at work, or was within ten minutes; stop it first, or wait"
            )
    for path in sorted(root.glob("ensembles/*/ensemble.json")):
        with contextlib.suppress(*UNREADABLE):
            for member in json.loads(path.read_text())["members"]:
                if member["run"] in going:
                    reasons.setdefault(
                        member["run"],
                        f"the ensemble {path.parent} is made of it; remove that first",
                    )
    for run in list_runs(root):
        with contextlib.suppress(*UNREADABLE):
            before = (run.info().get("forked_from") or {}).get("run")
            if before in going and run.name not in going:
                reasons.setdefault(before, f"{run.name} branches from it; delete that too")
    return reasons
