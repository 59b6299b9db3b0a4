"""The live progress line of a run: it reads the run's own log and draws on standard error."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from data_pipeline.storage.object_requests import seconds_away
from metadist.objectives import Metric
from metadist.process.announce import Announce
from metadist.process.polling import Polling
from metadist.runs.log import LogReader, Point
from metadist.runs.readers.evaluations import described
from metadist.runs.run_dir import RunDir

log = logging.getLogger(__name__)

#: Steps over which loss and accuracy are averaged, and over which speed is measured.
SMOOTH = 50
_SPEED_STEPS = 200
#: Seconds between plain lines where there is no terminal, and between looks at the log.
PLAIN_SECONDS = 10.0
POLL_SECONDS = 0.5
#: Go to the start of the line and clear it.
_CLEAR = "\r\x1b[K"


class Progress:
    """What is known of a run, in one line.

    Args:
        total: outer steps of the run.
        metric: what validation scores are; the first that the log has if not given.
        describe: what is known of a metric by its name.
        stream: where to draw; standard error if not given.
        since: points older than this (seconds since 1970) say nothing about speed: they are of an
            earlier attempt. Now if not given.
    """

    def __init__(
        self,
        total: int,
        metric: Metric | None = None,
        *,
        describe: Callable[[str], Metric] = described,
        stream: TextIO | None = None,
        since: float | None = None,
    ) -> None:
        self._total = total
        self._metric, self._describe = metric, describe
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._since = (time.time() if since is None else since) * 1000
        self._lock = threading.RLock()
        self._step = 0
        self._loss: deque[float] = deque(maxlen=SMOOTH)
        self._scores: dict[str, deque[float]] = {}
        self._times: deque[tuple[int, int]] = deque(maxlen=_SPEED_STEPS)
        self._val: tuple[float, int] | None = None
        self._latest: dict[str, float] = {}
        self._waiting = ""
        self._fresh_val = False
        self._changed = False
        self._drawn = -math.inf

    def feed(self, points: Iterable[Point]) -> None:
        """Take in points of the log; none of them twice."""
        with self._lock:
            for point in points:
                self._take(point)

    def _take(self, point: Point) -> None:
        if point.metric == "train/loss":
            self._step = max(self._step, point.step)
            self._loss.append(point.value)
            if point.time >= self._since:
                self._times.append((point.step, point.time))
        elif point.metric.startswith("train/"):
            name = point.metric.removeprefix("train/")
            self._scores.setdefault(name, deque(maxlen=SMOOTH)).append(point.value)
        elif self._validated(point.metric):
            # All there is of a learner that is not trained.
            self._step = max(self._step, point.step)
            self._val = (point.value, point.step)
            self._fresh_val = point.time >= self._since
        elif point.metric.startswith("perf/") and point.time >= self._since:
            self._latest[point.metric] = point.value
        else:
            return
        self._changed = True

    def _validated(self, name: str) -> bool:
        """Whether a point is a validation score."""
        part, _, metric = name.partition("/")
        if part != "val" or metric in ("loss", "failed"):
            return False
        self._metric = self._metric or self._describe(metric)
        return metric == self._metric.name

    def wait_for(self, waiting: str) -> None:
        """Say in the line what is waited for; nothing if it is empty."""
        with self._lock:
            # Without a terminal each change would be a line of its own.
            changed = (
                waiting != self._waiting if self._live else bool(waiting) != bool(self._waiting)
            )
            self._waiting = waiting
            self._changed = self._changed or changed

    def line(self) -> str:
        """The line as it stands."""
        with self._lock:
            width = len(f"{self._total:,}")
            share = self._step / self._total if self._total else 1.0
            parts = [f"step {self._step:>{width},}/{self._total:,} {share:4.0%}"]
            if self._waiting:  # first, for the end of a line may be cut off
                parts.append(self._waiting)
            if self._loss:
                parts.append(f"loss {_mean(self._loss):.4g}")
            metric = self._metric or next(map(self._describe, self._scores), None)
            if metric and (scores := self._scores.get(metric.name)):
                parts.append(f"{metric.name} {_told(metric, _mean(scores))}")
            if self._metric and self._val:
                value, step = self._val
                name = "" if self._metric.percent else f" {self._metric.name}"
                parts.append(f"val{name} {_told(self._metric, value)} @{step:,}")
            if (speed := self._latest.get("perf/tasks_per_second")) is not None:
                parts.append(f"{speed:,.0f} tasks/s" if speed >= 10 else f"{speed:.1f} tasks/s")
            if (wait := self._latest.get("perf/data_wait")) is not None:
                parts.append(f"data wait {wait:.0%}")
            if (left := self._seconds_left()) is not None:
                parts.append(f"ETA {duration(left)}")
            return " · ".join(parts)

    def _seconds_left(self) -> float | None:
        if len(self._times) < 2 or self._step >= self._total:
            return None
        (first, began), (last, ended) = self._times[0], self._times[-1]
        if last <= first or ended <= began:
            return None
        return (self._total - last) * (ended - began) / 1000 / (last - first)

    def draw(self, *, now: float | None = None) -> None:
        """Draw if it is time to: always on a terminal, else each 10 s and at each validation."""
        moment = time.monotonic() if now is None else now
        with self._lock:
            if not self._changed:
                return
            due = moment - self._drawn >= PLAIN_SECONDS or self._fresh_val
            if not self._live and not due:
                return
            self._changed = self._fresh_val = False
            self._drawn = moment
            if self._live:
                room = shutil.get_terminal_size().columns - 1
                self._write(_CLEAR + shorten(self.line(), room))
            else:
                self._write(self.line() + "\n")

    def clear(self) -> None:
        """Remove the line from a terminal, for something else to be written; it comes back."""
        with self._lock:
            if self._live:
                self._write(_CLEAR)
                self._changed = True

    def close(self) -> None:
        """Draw a last time and leave the line standing."""
        with self._lock:
            if not self._step:
                return
            if self._live:
                self._changed = True
                self.draw()
                self._write("\n")
            elif self._changed:
                self._write(self.line() + "\n")
            self._changed = False

    def _write(self, text: str) -> None:
        # A closed terminal or pipe is no reason to stop a run.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


class ProgressFollower(Polling):
    """Follows a run's log in a thread and keeps its :class:`Progress` drawn.

    Use as a context manager around the training.
    """

    def __init__(self, run: RunDir, progress: Progress, *, interval: float = POLL_SECONDS) -> None:
        super().__init__(interval)
        self.progress = progress
        self._reader = LogReader(run)

    def look(self) -> None:
        """Draw what is new."""
        self._read()
        away = seconds_away()
        self.progress.wait_for("" if away is None else f"object store away for {duration(away)}")
        self.progress.draw()

    def last(self) -> None:
        """Draw what is new for the last time."""
        self._read()
        self.progress.close()

    def _read(self) -> None:
        try:
            self.progress.feed(self._reader.poll())
        except Exception as error:  # whatever is wrong with the log, the writer of it will say so
            log.debug("the log cannot be read: %s", error)


class AboveProgress(logging.StreamHandler[TextIO]):
    """A log handler whose records do not run into the progress line."""

    def __init__(self, progress: Progress, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Clear the line, write the record; the line is drawn again with the next point."""
        self._progress.clear()
        super().emit(record)


@contextlib.contextmanager
def show_progress(
    run: RunDir, steps: int, metric: Metric, announce: Announce
) -> Iterator[Announce]:
    """Keep a live line on standard error while the block runs; what else is said appears above it.

    Args:
        steps: outer steps of the run.
        metric: what validation scores are.

    Yields:
        What to announce with.
    """
    progress = Progress(steps, metric)

    def above(line: str) -> None:
        progress.clear()
        announce(line)

    root = logging.getLogger()
    handlers = root.handlers
    handler = AboveProgress(progress)
    handler.setFormatter(handlers[0].formatter if handlers else None)
    root.handlers = [handler] if handlers else []
    try:
        with ProgressFollower(run, progress):
            yield above
    finally:
        root.handlers = handlers


def _told(metric: Metric, score: float) -> str:
    return f"{score:.1%}" if metric.percent else f"{score:.4g}"


def _mean(values: Iterable[float]) -> float:
    """Mean of the finite values; NaN if there are none."""
    finite = [v for v in values if math.isfinite(v)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def duration(seconds: float) -> str:
    """``4:07``, ``1:02:33`` or ``2 d 03:15``."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shorten(text: str, room: int) -> str:
    """``text`` in at most ``room`` characters, cut at the end."""
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"
