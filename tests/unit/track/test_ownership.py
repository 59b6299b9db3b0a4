"""MLflow: a run belongs to one directory; copies, clones and backups get runs of their own."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_place import Boom, Place, die_before
from tiers import one_in
from tracked import add_steps, history, written

from data_pipeline.storage.object_uri import local_path
from metadist import track
from metadist.errors import TrackingError
from metadist.runs.listing import create_run
from metadist.runs.log import LogWriter
from metadist.runs.run_dir import RunDir
from metadist.track import ownership, registry
from metadist.track import synchroniser as sync_module
from metadist.track.client import connect
from metadist.track.upload import latest_tags


def start(run: RunDir, uri: str) -> str:
    """What a driver does first."""
    known = run.info().get("mlflow") or {}
    tags = latest_tags(run)
    run_id = known.get("run_id")
    return track.own_run(run, uri, tags, experiment="metadist", run_id=run_id, starts=True)


def train(run: RunDir, uri: str, first: int, last: int) -> str:
    """Steps of a driver, from the first to the last; its MLflow run."""
    run_id, attempt = start(run, uri), run.claim({})
    add_steps(LogWriter(attempt), first, last)
    with attempt.commit():  # to an object store
        pass
    assert track.Synchroniser(run, uri, run_id, interval=0.01).start().finish("finished", 20)
    run.update(status="finished")
    return run_id


def copy(run: RunDir, to: str) -> RunDir:
    shutil.copytree(run.path, run.path.parent.parent / to)
    return RunDir(run.path.parent.parent / to)


def move(run: RunDir, to: str) -> RunDir:
    return RunDir(run.path.rename(run.path.parent.parent / to))


@pytest.mark.parametrize("first", one_in(2, ["original", "copy"]))
def test_a_copy_gets_a_run_of_its_own_whichever_goes_on_first(run, uri, first, caplog):
    run_id = train(run, uri, 1, 10)
    runs = {"original": run, "copy": copy(run, "runs/other")}
    for name in sorted(runs, key=lambda name: name != first):
        train(runs[name], uri, 11, 20 if name == "original" else 30)
    other = runs["copy"].info()["mlflow"]["run_id"]
    assert run.info()["mlflow"]["run_id"] == run_id != other
    for directory, identity in ((run, run_id), (runs["copy"], other)):
        assert history(uri, identity) == written(directory)
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "\n" not in said
    for part in (str(run.path), str(runs["copy"].path), run_id, other, "copy"):
        assert part in said
    found = connect(uri).get_run(other)
    assert found.info.run_name == "other"
    assert found.data.tags["run_dir"] == str(runs["copy"].path)
    # And it keeps that one; a copy of the copy gets a third.
    assert train(runs["copy"], uri, 31, 35) == other
    assert train(copy(runs["copy"], "runs/third"), uri, 36, 40) not in (run_id, other)
    assert {f.key for f in track.search_runs(uri, "metadist")} == {
        track.run_key(RunDir(run.path.parent / name).info()) for name in ("demo", "other", "third")
    }


@pytest.mark.parametrize(
    "moved",
    [
        lambda run: move(run, "runs/new"),
        lambda run: move(run, "demo"),
        lambda run: RunDir(run.path.parent.rename(run.path.parent.parent / "old-runs") / run.name),
        lambda run: (
            (run.path.parent.parent / "alias").symlink_to(run.path.parent),
            RunDir(run.path.parent.parent / "alias" / run.name),
        )[1],
    ],
    ids=["renamed", "elsewhere", "parent renamed", "two names of one folder"],
)
def test_a_moved_directory_keeps_its_run(run, uri, moved: Callable[[RunDir], RunDir], caplog):
    run_id = train(run, uri, 1, 10)
    there = moved(run)
    assert track.sync_run(there, uri=uri) == run_id
    assert train(there, uri, 11, 20) == run_id
    assert history(uri, run_id) == written(there)
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.slow
def test_of_two_that_do_not_see_each_other_the_first_to_start_has_it(run, uri, monkeypatch):
    """As on two machines: what each thinks of as the original is not there."""
    monkeypatch.setattr(ownership, "_has", lambda *_: False)
    run_id = train(run, uri, 1, 10)
    other = copy(run, "elsewhere/demo")
    assert train(other, uri, 11, 20) == run_id
    own = train(run, uri, 11, 25)
    assert own != run_id
    assert history(uri, run_id) == written(other)
    assert history(uri, own) == written(run)
    assert train(other, uri, 21, 30) == run_id


@pytest.mark.slow
@pytest.mark.parametrize("starts_before_the_backup", [1, 2])
def test_a_backup_that_is_put_back_adds_no_step_twice(run, uri, starts_before_the_backup):
    """At the same path; so does a clone of a disk in another container."""
    run_id = train(run, uri, 1, 5)
    backup = copy(run, "backup")
    if starts_before_the_backup == 1:  # the same start goes on
        add_steps(LogWriter(run.claim({})), 6, 10)
        track.sync_run(run)
    else:
        start(run, uri)
    shutil.rmtree(run.path)
    backup.path.rename(run.path)
    own = train(run, uri, 6, 12)
    assert own != run_id
    assert history(uri, own) == written(run)
    assert connect(uri).get_run(own).info.run_name == "demo-copy"
    assert len([p for p in history(uri, run_id) if p[0] == "train/loss"]) in (5, 10)


@pytest.mark.slow
def test_two_at_once_are_parted_while_they_run(run, uri, monkeypatch, caplog):
    monkeypatch.setattr(sync_module, "_OWNER_SECONDS", 0.0)
    monkeypatch.setattr(ownership, "_has", lambda *_: False)

    def follower(directory: RunDir) -> track.Synchroniser:
        def again(lost: str) -> str:
            tags = latest_tags(directory)
            return track.own_run(directory, uri, tags, experiment="metadist", run_id=lost)

        made = start(directory, uri)
        return track.Synchroniser(directory, uri, made, interval=0.01, again=again).start()

    run_id = train(run, uri, 1, 10)
    followers = {run: follower(run)}
    other = copy(run, "elsewhere/demo")  # of a run in progress
    followers[other] = follower(other)
    for directory, last in ((run, 20), (other, 30)):
        add_steps(LogWriter(directory.claim({})), 11, last)
    for directory, synchroniser in followers.items():
        assert synchroniser.finish("finished", 20)
        found = directory.info()["mlflow"]["run_id"]
        assert history(uri, found) == written(directory)
        assert connect(uri).get_run(found).info.status == "FINISHED"
    assert other.info()["mlflow"]["run_id"] == run_id  # the later claim counts
    assert run.info()["mlflow"]["run_id"] != run_id
    assert caplog.text.count("it gets one of its own") == 1


def test_a_driver_that_dies_while_it_claims_its_run_keeps_it(run, uri, monkeypatch):
    run_id = train(run, uri, 1, 5)
    with monkeypatch.context() as patch:
        patch.setattr(ownership, "set_tags", lambda *_: (_ for _ in ()).throw(Boom()))
        with pytest.raises(TrackingError):
            start(run, uri)
    assert train(run, uri, 6, 8) == run_id


@pytest.mark.slow
def test_copies_that_were_offline_are_sent_to_two_runs(run, uri):
    add_steps(LogWriter(run.claim({})), 1, 5)
    other = copy(run, "runs/other")
    add_steps(LogWriter(other.claim({})), 6, 8)
    for directory in (other, run, other):
        identity = track.sync_run(directory, uri=uri)
        assert history(uri, identity) == written(directory)
    assert run.info()["mlflow"] != other.info()["mlflow"]


def test_an_original_that_cannot_be_read_is_there(run, uri):
    run_id = train(run, uri, 1, 5)
    other = copy(run, "runs/other")
    (run.path / "run.json").write_text("{")
    assert train(other, uri, 6, 8) != run_id


def test_a_model_of_a_copy_goes_to_its_own_run(run, uri, monkeypatch):
    run_id = train(run, uri, 1, 5)
    other = copy(run, "runs/other")
    asked: list[str] = []

    def registered(_client: Any, _address: str, run_id: str, *_: Any) -> int:
        asked.append(run_id)
        return 1

    monkeypatch.setattr(registry, "_register", registered)
    for directory in (run, other):
        made = registry.register_run(directory, lambda: None)  # type: ignore[arg-type, return-value]
        assert made["mlflow_run"] == directory.info()["mlflow"]["run_id"] == asked[-1]
    assert asked[0] == run_id != asked[1]
    assert history(uri, asked[1]) == written(other)


def test_a_run_of_before_there_were_claims_is_known_by_its_directory(run, uri):
    run_id = train(run, uri, 1, 5)
    run.update(claims=[])
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute("delete from tags where key = ?", (ownership.CLAIM_TAG,))
    database.close()
    other = copy(run, "runs/other")
    assert train(other, uri, 6, 8) != run_id
    assert train(run, uri, 6, 8) == run_id


@pytest.mark.slow
def test_in_an_object_store_another_node_goes_on_and_a_copy_has_its_own(
    run, uri, object_store, shelf, tmp_path, monkeypatch
):
    def on_node(node: str, name: str) -> RunDir:
        monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path / node))
        there = RunDir(local_path(f"{shelf}/runs/{name}"))
        assert there.pull()
        return there

    there = create_run(local_path(f"{shelf}/runs"), "demo", run.recipe(), run.info())
    run_id = train(there, uri, 1, 5)
    there = on_node("second", "demo")
    assert train(there, uri, 6, 8) == run_id
    for key in object_store.keys(f"{shelf.removeprefix('s3://shelf/')}/runs/demo/"):
        object_store.write(key.replace("/runs/demo/", "/runs/other/"), object_store.read(key))
    other = on_node("third", "other")
    own = train(other, uri, 9, 12)
    there = on_node("third", "demo")
    assert train(there, uri, 9, 10) == run_id != own
    assert history(uri, run_id) == written(there)
    assert history(uri, own) == written(other)


@pytest.mark.slow
def test_a_run_and_its_copy_are_both_trained_to_the_end(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, uri = Place(tmp_path), f"sqlite:///{tmp_path}/mlflow.db"
    shutil.copy(template, tmp_path / "mlflow.db")
    options: dict[str, Any] = {"offline": False, "tracking_uri": uri}
    with monkeypatch.context() as patch:
        die_before(patch, 6)
        with pytest.raises(Boom):
            place.train(name="a", **options)
    shutil.copytree(place.runs / "a", place.runs / "b")
    results = [place.train(resume=name, **options) for name in ("a", "b")]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]
    known = [place.run(name).info()["mlflow"]["run_id"] for name in ("a", "b")]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        query = "select step from metrics where run_uuid = ? and key = 'train/loss' order by step"
        for run_id in known:
            assert [s for (s,) in database.execute(query, (run_id,))] == list(range(1, 13))
    database.close()
    assert known[0] != known[1]


def test_only_the_directory_that_has_an_mlflow_run_deletes_it(run, uri):
    run_id = train(run, uri, 1, 3)
    other = copy(run, "runs/other")
    assert not track.delete_run(other, uri)
    client = connect(uri)
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    assert track.delete_run(run)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    assert not track.delete_run(run)
