"""Training with MLflow leaves the process as it was, and takes a store's troubles quietly."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_place import Place
from tiers import one_in
from tracked import history, written

import metadist
from metadist.errors import TrackingError
from metadist.track.client import connect
from metadist.track.upload import sync_run
from metadist.track.uris import sqlite_path
from metadist.training.trainer import Trainer


def settings() -> dict[str, Any]:
    """What belongs to the whole process."""
    return {
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (1, 2, 15)],
        "threads": {thread.name for thread in threading.enumerate()},
        "filters": {
            name: list(logging.getLogger(name).filters)
            for name in ("alembic.runtime.migration", "mlflow.store.db.utils")
        },
        "root": (list(logging.getLogger().handlers), logging.getLogger().level),
        "torch": (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
        ),
        "random": (random.getstate(), np.random.get_state()[1].tolist()),  # type: ignore[index]
        "folder": Path.cwd(),
    }


@pytest.mark.slow
def test_a_process_is_as_it_was(tmp_path: Path, uri: str) -> None:
    connect(uri)  # what imports change is not ours to undo
    place = Place(tmp_path)
    place.train(name="first")
    before = settings()
    place.train(name="a", offline=False, tracking_uri=uri)
    metadist.evaluate("a", runs_dir=place.runs, data_dir=tmp_path / "data")
    sync_run(place.run("a"))
    with pytest.raises(TrackingError):
        place.train(name="b", offline=False, tracking_uri="http://127.0.0.1:9")
    after = settings()
    for what, value in before.items():
        assert after[what] == value, what


def losses(points: dict[tuple[str, int], Any]) -> dict[int, Any]:
    return {step: found for (name, step), found in points.items() if name == "train/loss"}


def vanish(path: Path) -> None:
    path.rename(path.with_suffix(".away"))
    path.mkdir()


def empty(path: Path) -> None:
    path.rename(path.with_suffix(".away"))
    path.touch()


@pytest.mark.parametrize("trouble", one_in(2, [vanish, empty]))
def test_a_store_that_fails_at_the_end_costs_a_line(
    tmp_path: Path,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[Path], None],
) -> None:
    place, store, original = Place(tmp_path), sqlite_path(uri), Trainer.step
    assert store is not None
    monkeypatch.setenv("METADIST_TRACKING_WAIT_S", "3")

    def step(self: Trainer, *arguments: Any) -> Any:
        if self.step_done == 6:
            trouble(store)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "step", step)
    assert place.train(name="a", offline=False, tracking_uri=uri)["steps"] == 12
    run = place.run("a")
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "sqlalche.me" not in out + err
    (told,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert f"metadist sync {run.path}" in told
    if store.is_dir():
        store.rmdir()
    store.with_suffix(".away").rename(store)
    assert run.info()["status"] == "finished"
    assert losses(history(uri, sync_run(run))) == losses(written(run))


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [False, True])
def test_a_store_of_another_mlflow_is_left_alone_and_the_run_goes_on(
    tmp_path: Path, uri: str, caplog: pytest.LogCaptureFixture, resumed: bool
) -> None:
    place, store = Place(tmp_path), sqlite_path(uri)
    assert store is not None
    if resumed:
        place.train("outer.steps=6", name="a", offline=False, tracking_uri=uri)
    good = store.read_bytes()
    with sqlite3.connect(store) as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
        database.execute("drop table webhook_events")  # MLflow itself would add what is missing
    database.close()
    old = store.read_bytes()
    options = {"resume": "a"} if resumed else {"name": "a"}
    assert place.train(offline=False, tracking_uri=uri, **options)["steps"] == 12
    assert store.read_bytes() == old
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    for part in ("451aebb31d03", f"mlflow db upgrade {uri}", "copy", "metadist sync"):
        assert part in told
    store.write_bytes(good)
    run = place.run("a")
    assert losses(history(uri, sync_run(run, uri=uri))) == losses(written(run))
