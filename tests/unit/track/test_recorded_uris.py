"""The store that a run directory names is not believed where that could do harm."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from run_place import Boom, Place, die_before
from tracked import count

from metadist import track
from metadist.errors import TrackingError
from metadist.runs.run_dir import RunDir
from metadist.track.uris import store_of

NAMED = "name it with --tracking-uri"


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """A server of a stranger, and the credentials it was sent."""
    found: list[str] = []

    class Listening(BaseHTTPRequestHandler):
        def answer(self) -> None:
            found.append(self.headers.get("Authorization", ""))
            self.send_error(404)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Listening)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", found
    server.shutdown()
    thread.join()
    server.server_close()


def test_credentials_go_to_no_stranger(
    run: RunDir, heard: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, authorizations = heard
    run.update(mlflow={"tracking_uri": stranger, "experiment": "metadist", "run_id": "1" * 32})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ours.example")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "company-token")
    with pytest.raises(TrackingError, match=NAMED):
        track.sync_run(run)
    assert authorizations == []
    # Whoever names it has decided.
    with pytest.raises(TrackingError):
        track.sync_run(run, uri=stranger)
    assert authorizations[0] == "Bearer company-token"


def test_what_is_believed(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    assert store_of("https://a.example", "https://b.example", elsewhere, run) == "https://b.example"
    assert store_of(uri, None, tmp_path, run) == uri
    assert store_of(uri, None, elsewhere, run) == uri  # there is such a store
    assert store_of("https://a.example", None, elsewhere, run) == "https://a.example"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pass@a.example")
    own = "https://me:pass@a.example"
    assert store_of("https://***@a.example", None, elsewhere, run) == own

    other = tmp_path / "cookies.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("create table runs (x)")
    database.close()
    for recorded in (
        f"sqlite:///{other}",
        f"sqlite:///{tmp_path}/new/x.db",
        "postgresql://db/mlflow",
        "file:///etc",
    ):
        with pytest.raises(TrackingError, match=NAMED):
            store_of(recorded, None, elsewhere, run)
    assert not (tmp_path / "new").exists()
    with pytest.raises(TrackingError, match="its password is not kept"):
        store_of("https://***@b.example", None, elsewhere, run)
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text("[mlflow]")
    with pytest.raises(TrackingError, match=NAMED):
        store_of("https://b.example", None, elsewhere, run)


@pytest.mark.slow
def test_a_run_goes_on_in_the_store_that_is_named(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every point, also those of the attempts before."""
    place = Place(tmp_path)
    first, second = (f"sqlite:///{tmp_path}/{name}/mlflow.db" for name in ("one", "two"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mlflow.db").write_bytes(template.read_bytes())
    with monkeypatch.context() as patch:
        die_before(patch, 6)
        with pytest.raises(Boom):
            place.train(name="a", offline=False, tracking_uri=first)
    place.train(name="a", resume="a", offline=False, tracking_uri=second)
    mlflow = place.run("a").info()["mlflow"]
    assert mlflow["tracking_uri"] == second
    with sqlite3.connect(tmp_path / "two" / "mlflow.db") as database:
        query = "select step from metrics where key = 'train/loss' order by step"
        assert [step for (step,) in database.execute(query)] == list(range(1, 13))
    database.close()
    assert count(second, mlflow["run_id"]) > 12
