"""The run's own log: one JSON line per step and attempt, durable before anyone else sees it.

A point is (metric, step); the first writer wins, so that steps redone after a crash add nothing.
Attempts write to files of their own; a later attempt fixes the length up to which the earlier
files count. Trackers and progress lines read the log back and so never know more than it does.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.storage.local import write_atomic
from metadist.runs.run_dir import Attempt, RunDir

log = logging.getLogger(__name__)
#: Seconds after which buffered points are written.
FLUSH_SECONDS = 1.0
#: Seconds after which what was written is put into an object store, if the run is in one.
SHARE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric. ``time`` is in milliseconds since 1970."""

    metric: str
    step: int
    time: int
    value: float


def log_line(step: int, moment: int, metrics: Mapping[str, float]) -> str:
    """A line of a log's file: metrics of a step, and when they were made (ms since 1970)."""
    values = {n: v if math.isfinite(v) else str(v) for n, v in metrics.items()}
    return json.dumps({"step": step, "time": moment, "metrics": values}) + "\n"


class Sink:
    """Where the engine sends its metrics; nothing is kept here, on workers other than rank 0."""

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of an outer step (counted from 1, as steps done)."""

    def flush(self) -> None:
        """Make everything added so far durable."""


class LogWriter(Sink):
    """Appends to the log file of one attempt.

    Raises:
        SupersededError: on flush, when a later attempt has taken over.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._path = attempt.run.log / f"{attempt.number:04d}.jsonl"
        self._path.parent.mkdir(exist_ok=True)
        self._lines: list[str] = []
        self._written = self._shared = time.monotonic()

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Buffer metrics of a step; written at the latest with the next flush."""
        self._lines.append(log_line(step, time.time_ns() // 1_000_000, metrics))
        if time.monotonic() - self._written > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._attempt.append(self._path, "".join(self._lines))
            self._lines.clear()
            if self._attempt.run.store.shared and time.monotonic() - self._shared > SHARE_SECONDS:
                with self._attempt.commit():
                    self._shared = time.monotonic()
        self._written = time.monotonic()


class LogReader:
    """Reads the points of all attempts, each (metric, step) once; can be polled while they grow.

    Args:
        attempt: read that attempt's own points alone.
    """

    def __init__(self, run: RunDir, attempt: int | None = None) -> None:
        self._run = run
        self._files = "*.jsonl" if attempt is None else f"{attempt:04d}.jsonl"
        self._offsets: dict[str, int] = {}
        self._seen: set[tuple[str, int]] = set()

    def _seals(self) -> dict[str, int]:
        latest = self._run.latest_attempt()
        seals: dict[str, int] = {}
        for number in range(1, latest + 1):
            for name, length in self._run.attempt_facts(number)["sealed"].items():
                # The first attempt that saw the file fixed its length.
                seals.setdefault(name, length)
        return seals

    def poll(self) -> list[Point]:
        """Points that have become durable since the last call, in writing order."""
        if not self._run.log.is_dir():
            return []
        # Files first, seals second. Appending and claiming take the same lock, so an attempt that
        # claims the run between the two seals at least what was read here.
        news = [(path, self._news(path)) for path in sorted(self._run.log.glob(self._files))]
        seals = self._seals()
        points: list[Point] = []
        for path, data in news:
            points.extend(self._take(path, data, seals.get(path.name)))
        return points

    def _news(self, path: Path) -> bytes:
        with path.open("rb") as handle:
            handle.seek(self._offsets.get(path.name, 0))
            return handle.read()

    def _take(self, path: Path, data: bytes, end: int | None) -> list[Point]:
        start = self._offsets.get(path.name, 0)
        if end is not None:
            data = data[: max(end - start, 0)]
        # A line that is still being written, or that a crash cut short, has no newline yet.
        complete = data[: data.rfind(b"\n") + 1]
        self._offsets[path.name] = start + len(complete)
        points = []
        for raw in complete.splitlines():
            try:
                line = json.loads(raw)
                step, moment = int(line["step"]), int(line["time"])
                found = [Point(m, step, moment, float(v)) for m, v in line["metrics"].items()]
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                log.warning("%s: a line that is no point of a log was passed over", path)
                continue
            for point in found:
                if (point.metric, step) not in self._seen:
                    self._seen.add((point.metric, step))
                    points.append(point)
        return points


def series(run: RunDir) -> dict[str, list[Point]]:
    """All points of a run by metric, ordered by step."""
    result: dict[str, list[Point]] = {}
    for point in LogReader(run).poll():
        result.setdefault(point.metric, []).append(point)
    return {metric: sorted(points, key=lambda p: p.step) for metric, points in result.items()}


def by_attempt(run: RunDir) -> dict[int, list[Point]]:
    """Every attempt's own points, those of steps that another attempt did as well included."""
    numbers = range(1, run.latest_attempt() + 1)
    return {number: LogReader(run, number).poll() for number in numbers}


def write_parquet(run: RunDir) -> Path:
    """The whole log as ``log/metrics.parquet``: metric, step, time (ms), value."""
    points = [p for _, ps in sorted(series(run).items()) for p in ps]
    types = {"metric": pa.string(), "step": pa.int64(), "time": pa.int64(), "value": pa.float64()}
    table = pa.table({n: pa.array([getattr(p, n) for p in points], t) for n, t in types.items()})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    path = run.log / "metrics.parquet"
    write_atomic(path, buffer.getvalue().to_pybytes())
    return path
