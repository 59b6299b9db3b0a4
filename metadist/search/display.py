"""The live table of a search."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TextIO

from metadist.process.announce import Announce
from metadist.report.text_table import aligned
from metadist.search.plan import Plan
from metadist.search.search_dir import SearchDir, TrialRecord, ranked
from metadist.space import Point

#: Seconds between two drawings.
_EVERY = 0.5
#: Rows of the live table.
_ROWS = 12


@dataclass
class _Seen:
    point: Point
    step: int = 0
    score: float = math.nan
    status: str = "running"


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
        self._seen: dict[int, _Seen] = {}
        self._drawn = 0
        self._at = -math.inf
        self._lock = threading.Lock()
        terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self._table = self.live and terminal

    def __enter__(self) -> Display:
        for trial in self.search.trials():
            if trial.over:
                self._seen[trial.number] = _of(trial)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._draw(force=True)

    def began(self, number: int, point: Point) -> None:
        """A trial has begun."""
        with self._lock:
            there = self._seen.get(number)
            if there is None or there.status == "died":
                self._seen[number] = _Seen(point)
        self._draw()

    def scored(self, number: int, step: int, score: float) -> None:
        """A trial was validated."""
        with self._lock:
            seen = self._seen.get(number)
            if seen is not None and seen.status == "running":
                seen.step = max(seen.step, step)
                seen.score = score if abs(score) < 1e29 else math.nan
        self._draw()

    def ended(self, number: int) -> None:
        """A trial has ended."""
        record = {t.number: t for t in self.search.trials()}.get(number)
        with self._lock:
            was = self._seen.get(number)
            if record is not None:
                self._seen[number] = _of(record)
        fresh = was is None or was.status == "running"
        if record is not None and record.over and not self._table and fresh:
            self.announce(self._line(record))
        self._draw()

    def died(self, number: int) -> None:
        """A trial's process has died too often."""
        with self._lock:
            if number in self._seen:
                self._seen[number].status = "died"
        if not self._table:
            self.announce(f"trial {number}: its process died again and again; it is given up")
        self._draw()

    def _line(self, trial: TrialRecord) -> str:
        over = sum(s.status not in ("running", "died") for s in self._seen.values())
        head = f"[{over}/{self.plan.trials}] trial {trial.number}: {values(trial.point)}"
        if trial.status == "failed":
            return f"{head} failed: {trial.error}"
        best = ranked(self.search.trials(), self.plan.space.mode)[:1]
        mark = " · best so far" if best and best[0].number == trial.number else ""
        shown = figure(trial.score, self.plan.space.metric)
        return f"{head} · {shown} · {trial.status} at step {trial.steps}{mark}"

    def _draw(self, *, force: bool = False) -> None:
        if not self._table or (not force and time.monotonic() - self._at < _EVERY):
            return
        # A terminal that is gone is no reason to end a search.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._at = time.monotonic()
            lines = table(self._rows(), self.plan)
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            self.stream.write(up + "".join(f"\x1b[K{line}\n" for line in lines))
            extra = self._drawn - len(lines)
            if extra > 0:
                self.stream.write("\x1b[K\n" * extra + f"\x1b[{extra}A")
            self.stream.flush()
            self._drawn = len(lines)

    def _rows(self) -> list[tuple[int, _Seen]]:
        sign = -1.0 if self.plan.space.mode == "max" else 1.0

        def order(row: tuple[int, _Seen]) -> tuple[bool, float, int]:
            number, seen = row
            unknown = math.isnan(seen.score)
            return (unknown, 0.0 if unknown else sign * seen.score, number)

        ordered = sorted(self._seen.items(), key=order)
        running = [row for row in ordered if row[1].status == "running"]
        others = [row for row in ordered if row[1].status != "running"]
        return others[: max(_ROWS - len(running), 3)] + running


def _of(trial: TrialRecord) -> _Seen:
    score = math.nan if trial.score is None else trial.score
    return _Seen(trial.point, trial.steps, score, trial.status)


def values(point: Mapping[str, object]) -> str:
    """A point in words."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in point.items()
    )


def figure(score: float | None, metric: str) -> str:
    """A score in words."""
    if score is None or not math.isfinite(score):
        return "no score"
    return f"{100 * score:.1f} %" if metric == "val/accuracy" else f"mse {score:.4g}"


def table(rows: Sequence[tuple[int, _Seen]], plan: Plan) -> list[str]:
    """Lines of equal columns: trial, values, step, score, status."""
    keys = list(plan.space.search)
    body = [["trial", *keys, "step", plan.space.metric, ""]]
    for number, seen in rows:
        shown = [
            f"{seen.point[k]:.3g}"
            if isinstance(seen.point.get(k), float)
            else str(seen.point.get(k, "–"))
            for k in keys
        ]
        step = f"{seen.step}/{plan.space.steps}"
        body.append([str(number), *shown, step, figure(seen.score, plan.space.metric), seen.status])
    return aligned(body, right=range(len(keys) + 3), rule=False)
