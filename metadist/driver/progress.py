"""The live progress of a run: it reads the run's own log and is shown on standard error."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self, TextIO

from data_pipeline.storage.object_requests import seconds_away
from metadist.objectives import Metric
from metadist.process.console import Painter, meters
from metadist.process.polling import Polling
from metadist.runs.log import LogReader, Point
from metadist.runs.readers.evaluations import described
from metadist.runs.run_dir import RunDir

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger(__name__)

#: Steps over which loss and accuracy are averaged, and over which speed is measured.
SMOOTH = 50
_SPEED_STEPS = 200
#: Seconds between plain lines where nothing is painted, and between looks at the log.
PLAIN_SECONDS = 10.0
POLL_SECONDS = 0.5


class Progress:
    """What is known of a run, in one line.

    Args:
        total: outer steps of the run.
        metric: what validation scores are; the first that the log has if not given.
        describe: what is known of a metric by its name.
        since: points older than this (seconds since 1970) say nothing about speed: they are of an
            earlier attempt. Now if not given.

    Attributes:
        step: the last one that is known of.
        changed: something is new; :attr:`validated`: it is a validation. For who shows it to
            reset.
    """

    def __init__(
        self,
        total: int,
        metric: Metric | None = None,
        *,
        describe: Callable[[str], Metric] = described,
        since: float | None = None,
    ) -> None:
        self._total = total
        self._metric, self._describe = metric, describe
        self._since = (time.time() if since is None else since) * 1000
        self._lock = threading.RLock()
        self._loss: deque[float] = deque(maxlen=SMOOTH)
        self._scores: dict[str, deque[float]] = {}
        self._times: deque[tuple[int, int]] = deque(maxlen=_SPEED_STEPS)
        self._val: tuple[float, int] | None = None
        self._latest: dict[str, float] = {}
        self._waiting = ""
        self.step = 0
        self.changed = self.validated = False

    def feed(self, points: Iterable[Point]) -> None:
        """Take in points of the log; none of them twice."""
        with self._lock:
            for point in points:
                self._take(point)

    def _take(self, point: Point) -> None:
        if point.metric == "train/loss":
            self.step = max(self.step, point.step)
            self._loss.append(point.value)
            if point.time >= self._since:
                self._times.append((point.step, point.time))
        elif point.metric.startswith("train/"):
            name = point.metric.removeprefix("train/")
            self._scores.setdefault(name, deque(maxlen=SMOOTH)).append(point.value)
        elif self._validated(point.metric):
            # All there is of a learner that is not trained.
            self.step = max(self.step, point.step)
            self._val = (point.value, point.step)
            self.validated = point.time >= self._since
        elif point.metric.startswith("perf/") and point.time >= self._since:
            self._latest[point.metric] = point.value
        else:
            return
        self.changed = True

    def _validated(self, name: str) -> bool:
        part, _, metric = name.partition("/")
        if part != "val" or metric in ("loss", "failed"):
            return False
        self._metric = self._metric or self._describe(metric)
        return metric == self._metric.name

    def wait_for(self, waiting: str) -> None:
        """Say in the line what is waited for; nothing if it is empty."""
        with self._lock:
            self.changed = self.changed or bool(waiting) != bool(self._waiting)
            self._waiting = waiting

    def line(self, *, cut: bool = False) -> str:
        """The line as it stands.

        Args:
            cut: its end may be cut off: the time that is left stands in front.
        """
        with self._lock:
            width = len(f"{self._total:,}")
            share = self.step / self._total if self._total else 1.0
            parts = [f"step {self.step:>{width},}/{self._total:,} {share:4.0%}"]
            if self._waiting:
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
                parts.insert(1 if cut else len(parts), f"ETA {duration(left)}")
            return " · ".join(parts)

    def _seconds_left(self) -> float | None:
        if len(self._times) < 2 or self.step >= self._total:
            return None
        (first, began), (last, ended) = self._times[0], self._times[-1]
        if last <= first or ended <= began:
            return None
        return (self._total - last) * (ended - began) / 1000 / (last - first)

    def picture(self) -> Table:
        """A bar and the line."""
        return meters([(self.step, self._total, self.line(cut=True))])


class ProgressFollower(Polling):
    """Follows a run's log in a thread and shows what it comes to.

    Use as a context manager around the training. It is painted where that can be; elsewhere there
    is a plain line each 10 s and at each validation.

    Args:
        stream: where to show it; standard error if not given.
    """

    def __init__(
        self,
        run: RunDir,
        progress: Progress,
        *,
        stream: TextIO | None = None,
        interval: float = POLL_SECONDS,
    ) -> None:
        self.progress, self.interval = progress, interval
        self._reader = LogReader(run)
        self._painter = Painter(progress.picture, stream)
        self._told, self._said = -math.inf, ""

    def __enter__(self) -> Self:
        self._painter.__enter__()
        return super().__enter__()

    def look(self) -> None:
        self._read()
        away = seconds_away()
        self.progress.wait_for("" if away is None else f"object store away for {duration(away)}")
        if away is not None:
            self._painter.paint()  # how long it is
        self.show()

    def show(self, *, now: float | None = None, last: bool = False) -> None:
        """Show the line if it has changed and it is time to.

        Args:
            now: in seconds, of any clock.
            last: it is the end of the block.
        """
        progress, moment = self.progress, time.monotonic() if now is None else now
        if not progress.changed:
            return
        if self._painter.live:
            self._painter.paint()
        elif last or progress.validated or moment - self._told >= PLAIN_SECONDS:
            if (line := progress.line()) != self._said:
                self._painter.say(line)
            self._told, self._said = moment, line
        else:
            return
        progress.changed = progress.validated = False

    def last(self) -> None:
        self._read()
        self.show(last=True)
        self._painter.__exit__()

    def _read(self) -> None:
        try:
            self.progress.feed(self._reader.poll())
        except Exception as error:  # whatever is wrong with the log, the writer of it will say so
            log.debug("the log cannot be read: %s", error)


def _told(metric: Metric, score: float) -> str:
    return f"{score:.1%}" if metric.percent else f"{score:.4g}"


def _mean(values: Iterable[float]) -> float:
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
