"""MLflow: several processes that begin at the same moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from run_place import Place
from tracked import begin, count

from metadist import track
from metadist.errors import TrackingError
from metadist.runs.listing import create_run
from metadist.track import client, ownership, sqlite_schema
from metadist.track.client import connect


def test_two_that_look_for_a_dataset_at_once_both_name_it(run, uri, monkeypatch):
    """Both find none and make it: the second is refused by the database, and looks again."""
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.models import SqlDataset
    from sqlalchemy.orm import Session

    both, waited = threading.Barrier(2), threading.local()

    def meet(session: Any, *_: Any) -> None:
        if any(isinstance(new, SqlDataset) for new in session.new) and not hasattr(waited, "once"):
            waited.once = True
            both.wait(30)

    other = create_run(run.path.parent, "other", run.recipe(), run.info() | {"name": "other"})
    made, failed = [], []

    def start(directory: Any) -> None:
        try:
            made.append(begin(directory, uri))
        except Exception as error:
            failed.append(error)

    sqlalchemy.event.listen(Session, "before_flush", meet)
    try:
        threads = [threading.Thread(target=start, args=(each,)) for each in (run, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sqlalchemy.event.remove(Session, "before_flush", meet)
    assert not failed
    mlflow = connect(uri)
    for run_id in made:
        inputs = mlflow.get_run(run_id).inputs
        assert inputs is not None
        (found,) = inputs.dataset_inputs
        assert found.dataset.name == "strokes"


def test_what_a_rival_has_done_is_done_again_and_nothing_else(monkeypatch):
    monkeypatch.setattr(client, "_SECONDS", 0.0)
    errors: list[Exception] = []

    def action() -> str:
        if errors:
            raise errors.pop()
        return "done"

    state = random.getstate()
    for text in (
        "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id",
        "RESOURCE_ALREADY_EXISTS: Experiment(name=metadist) already exists",
        'duplicate key value violates unique constraint "experiments_name_key"',
    ):
        errors[:] = [ValueError(text)] * 3
        assert client.retry_on_conflict(action) == "done"
    assert random.getstate() == state
    errors[:] = [ValueError("no answer"), ValueError("again")]
    with pytest.raises(ValueError, match="again"):
        client.retry_on_conflict(action)
    errors[:] = [ValueError("IntegrityError")] * 99
    with pytest.raises(ValueError, match="IntegrityError"):
        client.retry_on_conflict(action)


@pytest.mark.slow
def test_a_store_that_another_has_made_meanwhile_stays(run, uri, tmp_path):
    run_id = begin(run, uri)
    sqlite_schema.make_store(tmp_path / "mlflow.db")
    assert count(uri, run_id) == 0
    assert connect(uri).get_run(run_id).info.run_name == "demo"
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.slow
def test_a_run_that_mlflow_refuses_says_how_to_go_on(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, lines = Place(tmp_path), list[str]()
    options: dict[str, Any] = {"offline": False, "tracking_uri": uri, "announce": lines.append}
    with monkeypatch.context() as patch:
        refusal = TrackingError("refused")
        patch.setattr(ownership, "start_run", lambda *_, **__: (_ for _ in ()).throw(refusal))
        with pytest.raises(TrackingError, match="refused"):
            place.train(name="a", **options)
    assert lines[-1] == "a has not begun; go on with --resume a"
    place.train(resume="a", **options)
    assert place.run("a").info()["closed"]


@pytest.mark.slow
def test_six_drivers_make_the_store_at_once(tmp_path):
    """Each with a temporary directory of its own, as in containers: no lock keeps them apart."""
    code = (
        "import logging, pathlib, sys, time; logging.basicConfig(level=logging.INFO);"
        "import mlflow.store.tracking.sqlalchemy_store; from metadist import track;"
        "uri, name, folder = sys.argv[1:]; place = pathlib.Path(folder);"
        "(place / name).touch()\n"
        "while len(list(place.glob('driver-*'))) < 6: time.sleep(0.001)\n"
        "tags = {'dataset.name': 'strokes', 'dataset_digest': 'd' * 64};"
        "track.ensure_experiment(uri, 'metadist');"
        "track.start_run(uri, 'metadist', name, {'a': '1'}, tags, key=name)"
    )
    uri, drivers = f"sqlite:///{tmp_path}/new/mlflow.db", []
    for number in range(6):
        own = tmp_path / f"tmp-{number}"
        own.mkdir()
        drivers.append(
            subprocess.Popen(
                [sys.executable, "-c", code, uri, f"driver-{number}", str(tmp_path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "TMPDIR": str(own)},
            )
        )
    for driver in drivers:
        output, _ = driver.communicate(timeout=400)
        assert driver.returncode == 0, output
        assert "alembic" not in output
        assert "mlflow.store" not in output
    assert len(track.search_runs(uri, "metadist")) == 6
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["mlflow.db"]
