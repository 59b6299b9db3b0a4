"""Points of a run and of its MLflow run, to be compared."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from metadist import track
from metadist.runs.log import LogReader, LogWriter
from metadist.runs.run_dir import RunDir
from metadist.track import client as client_module
from metadist.track import synchroniser, upload


def begin(run: RunDir, uri: str, **tags: Any) -> str:
    info = run.info()
    params, found = track.run_params(run.recipe()), track.run_tags(info, tags)
    return track.start_run(uri, "metadist", run.name, params, found, key=track.run_key(info))


def history(uri: str, run_id: str) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """Everything an MLflow run holds: (time, value) of each (metric, step)."""
    mlflow = client_module.connect(uri)
    result: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for key in mlflow.get_run(run_id).data.metrics:
        for m in mlflow.get_metric_history(run_id, key):
            result.setdefault((key, m.step), []).append((m.timestamp, m.value))
    return result


def count(uri: str, run_id: str) -> int:
    """How many points an MLflow run holds."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        query = "select count(*) from metrics where run_uuid = ?"
        return int(database.execute(query, (run_id,)).fetchone()[0])


def written(run: RunDir) -> dict[tuple[str, int], list[tuple[int, float]]]:
    return {(p.metric, p.step): [(p.time, p.value)] for p in LogReader(run).poll()}


def add_steps(writer: LogWriter, first: int, last: int) -> None:
    for step in range(first, last + 1):
        writer.add(step, {"train/loss": 1 / step, "train/accuracy": step / 7})
    writer.flush()


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Requests fail while the event is set, every second one after it has arrived."""
    broken = threading.Event()
    honest, calls = upload.send_points, 0

    def unreliable(client: Any, run_id: str, points: Any) -> None:
        nonlocal calls
        calls += 1
        if broken.is_set():
            if calls % 2:
                honest(client, run_id, points)
            raise ConnectionError("no answer")
        honest(client, run_id, points)

    monkeypatch.setattr(synchroniser, "send_points", unreliable)
    monkeypatch.setattr(synchroniser, "BACKOFF", (0.01, 0.05))
    yield broken
