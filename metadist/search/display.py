"""What a search shows while it runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from metadist.objectives import Metric
from metadist.process.announce import Announce
from metadist.process.console import Painter, meters
from metadist.report.text_table import aligned
from metadist.search.plan import Plan
from metadist.search.search_dir import SearchDir, TrialRecord, rank, ranked
from metadist.space import Point
from metadist.statistics.format import percent

if TYPE_CHECKING:
    from rich.table import Table

#: Rows of the live table.
_ROWS = 12


@dataclass
class Display:
    """Says what happens, in lines; where it can be painted, in a table that is kept up to date.

    Attributes:
        announce: takes a line for each trial that has ended, where nothing is painted.
        live: paint, if ``stream`` can be painted on; standard error if it is not given.
    """

    plan: Plan
    search: SearchDir
    announce: Announce
    live: bool = False
    stream: TextIO | None = None

    def __post_init__(self) -> None:
        self._seen: dict[int, TrialRecord] = {}
        self._died: set[int] = set()
        self._lock = threading.RLock()
        self._painter = Painter(self.picture, self.stream)
        self._painted = self.live and self._painter.live

    def __enter__(self) -> Display:
        for trial in self.search.trials():
            if trial.over:
                self._seen[trial.number] = trial
        if self._painted:
            self._painter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._painter.__exit__()

    def began(self, number: int, point: Point) -> None:
        """A trial has begun."""
        with self._lock:
            if number not in self._seen or number in self._died:
                self._died.discard(number)
                self._seen[number] = TrialRecord(number, point, "", "running")
        self._paint()

    def scored(self, number: int, step: int, score: float) -> None:
        """A trial was validated."""
        with self._lock:
            seen = self._seen.get(number)
            if seen is not None and self._running(number):
                known = score if abs(score) < 1e29 else None
                self._seen[number] = replace(seen, steps=max(seen.steps, step), score=known)
        self._paint()

    def ended(self, number: int) -> None:
        """A trial has ended."""
        record = {t.number: t for t in self.search.trials()}.get(number)
        with self._lock:
            fresh = number not in self._seen or self._running(number)
            if record is not None:
                self._died.discard(number)
                self._seen[number] = record
        if record is not None and record.over and not self._painted and fresh:
            self.announce(self._line(record))
        self._paint()

    def died(self, number: int) -> None:
        """A trial's process has died too often."""
        with self._lock:
            if number in self._seen:
                self._died.add(number)
        if not self._painted:
            self.announce(f"trial {number}: its process died again and again; it is given up")
        self._paint()

    def _line(self, trial: TrialRecord) -> str:
        head = f"[{self._over()}/{self.plan.trials}] trial {trial.number}: {values(trial.point)}"
        if trial.status == "failed":
            return f"{head} failed: {trial.error}"
        best = ranked(self.search.trials(), self.plan.space.mode)[:1]
        mark = " · best so far" if best and best[0].number == trial.number else ""
        shown = figure(trial.score, self.plan.metric)
        return f"{head} · {shown} · {trial.status} at step {trial.steps}{mark}"

    def _paint(self) -> None:
        if self._painted:
            self._painter.paint()

    def _running(self, number: int) -> bool:
        return not self._seen[number].over and number not in self._died

    def _rows(self) -> list[TrialRecord]:
        mode = self.plan.space.mode
        ordered = sorted(self._seen.values(), key=lambda t: (rank(t.score, mode), t.number))
        running = [trial for trial in ordered if self._running(trial.number)]
        others = [trial for trial in ordered if not self._running(trial.number)]
        return others[: max(_ROWS - len(running), 3)] + running

    def _over(self) -> int:
        return sum(seen.over for number, seen in self._seen.items() if number not in self._died)

    def picture(self) -> Table:
        """Equal columns (trial, values, step, score, status), and how many trials are over."""
        space = self.plan.space
        rows = [["trial", *space.search, "step", space.metric, ""]]
        with self._lock:
            for trial in self._rows():
                point = [_value(trial.point.get(key, "–")) for key in space.search]
                step, score = f"{trial.steps}/{space.steps}", figure(trial.score, self.plan.metric)
                status = "died" if trial.number in self._died else trial.status
                rows.append([str(trial.number), *point, step, score, status])
            over, trials = self._over(), self.plan.trials
        lines = aligned(rows, range(len(space.search) + 3), rule=False)
        return meters([(over, trials, f"{over} of {trials} trials done")], below=lines)


def values(point: Mapping[str, object]) -> str:
    """A point in words."""
    return ", ".join(f"{key} {_value(value)}" for key, value in point.items())


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def figure(score: float | None, metric: Metric) -> str:
    """A score in words."""
    if score is None or not math.isfinite(score):
        return "no score"
    return percent(score) if metric.percent else f"{metric.name} {score:.4g}"
