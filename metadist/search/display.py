"""The live table of a search."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TextIO

from metadist.objectives import Metric
from metadist.process.announce import Announce
from metadist.report.text_table import aligned
from metadist.search.plan import Plan
from metadist.search.search_dir import SearchDir, TrialRecord, rank, ranked
from metadist.space import Point
from metadist.statistics.format import percent

#: Seconds between two drawings.
_EVERY = 0.5
#: Rows of the live table.
_ROWS = 12


@dataclass
class Display:
    """Says what happens, in lines; on a terminal in a table that is drawn again and again.

    Attributes:
        announce: takes a line for each trial that has ended, where nothing is drawn.
    """

    plan: Plan
    search: SearchDir
    announce: Announce
    live: bool = False
    stream: TextIO = field(default_factory=lambda: sys.stderr)

    def __post_init__(self) -> None:
        self._seen: dict[int, TrialRecord] = {}
        self._died: set[int] = set()
        self._drawn = 0
        self._at = -math.inf
        self._lock = threading.Lock()
        terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self._table = self.live and terminal

    def __enter__(self) -> Display:
        for trial in self.search.trials():
            if trial.over:
                self._seen[trial.number] = trial
        return self

    def __exit__(self, *error: object) -> None:
        self._draw(force=True)

    def began(self, number: int, point: Point) -> None:
        """A trial has begun."""
        with self._lock:
            if number not in self._seen or number in self._died:
                self._died.discard(number)
                self._seen[number] = TrialRecord(number, point, "", "running")
        self._draw()

    def scored(self, number: int, step: int, score: float) -> None:
        """A trial was validated."""
        with self._lock:
            seen = self._seen.get(number)
            if seen is not None and self._running(number):
                known = score if abs(score) < 1e29 else None
                self._seen[number] = replace(seen, steps=max(seen.steps, step), score=known)
        self._draw()

    def ended(self, number: int) -> None:
        """A trial has ended."""
        record = {t.number: t for t in self.search.trials()}.get(number)
        with self._lock:
            fresh = number not in self._seen or self._running(number)
            if record is not None:
                self._died.discard(number)
                self._seen[number] = record
        if record is not None and record.over and not self._table and fresh:
            self.announce(self._line(record))
        self._draw()

    def died(self, number: int) -> None:
        """A trial's process has died too often."""
        with self._lock:
            if number in self._seen:
                self._died.add(number)
        if not self._table:
            self.announce(f"trial {number}: its process died again and again; it is given up")
        self._draw()

    def _line(self, trial: TrialRecord) -> str:
        over = sum(seen.over for number, seen in self._seen.items() if number not in self._died)
        head = f"[{over}/{self.plan.trials}] trial {trial.number}: {values(trial.point)}"
        if trial.status == "failed":
            return f"{head} failed: {trial.error}"
        best = ranked(self.search.trials(), self.plan.space.mode)[:1]
        mark = " · best so far" if best and best[0].number == trial.number else ""
        shown = figure(trial.score, self.plan.metric)
        return f"{head} · {shown} · {trial.status} at step {trial.steps}{mark}"

    def _draw(self, *, force: bool = False) -> None:
        if not self._table or (not force and time.monotonic() - self._at < _EVERY):
            return
        # A terminal that is gone is no reason to end a search.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._at = time.monotonic()
            lines = self._table_lines()
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            self.stream.write(up + "".join(f"\x1b[K{line}\n" for line in lines))
            extra = self._drawn - len(lines)
            if extra > 0:
                self.stream.write("\x1b[K\n" * extra + f"\x1b[{extra}A")
            self.stream.flush()
            self._drawn = len(lines)

    def _running(self, number: int) -> bool:
        return not self._seen[number].over and number not in self._died

    def _rows(self) -> list[TrialRecord]:
        mode = self.plan.space.mode
        ordered = sorted(self._seen.values(), key=lambda t: (rank(t.score, mode), t.number))
        running = [trial for trial in ordered if self._running(trial.number)]
        others = [trial for trial in ordered if not self._running(trial.number)]
        return others[: max(_ROWS - len(running), 3)] + running

    def _table_lines(self) -> list[str]:
        """Lines of equal columns: trial, values, step, score, status."""
        space = self.plan.space
        body = [["trial", *space.search, "step", space.metric, ""]]
        for trial in self._rows():
            point = [_value(trial.point.get(key, "–")) for key in space.search]
            step, score = f"{trial.steps}/{space.steps}", figure(trial.score, self.plan.metric)
            status = "died" if trial.number in self._died else trial.status
            body.append([str(trial.number), *point, step, score, status])
        return aligned(body, right=range(len(space.search) + 3), rule=False)


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
