"""A search in MLflow: what its parent run says, and what is sent when its server was away."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from search_requests import request
from small_spaces import SMALL_SPACE

from metadist.errors import SpaceError, TrackingError
from metadist.search import confirm
from metadist.search.plan import Plan, make_plan
from metadist.search.request import store_for
from metadist.search.search_dir import create_search, open_search
from metadist.search.tracking import ParentRun
from metadist.search.trial import TrialContext, run_trial
from metadist.space import Point
from metadist.track import default_tracking_uri, public_uri
from metadist.track.client import connect

POINT: Point = {"inner.lr": 0.01, "outer.lr": 1e-3}


@pytest.fixture
def plan() -> Plan:
    return make_plan("test", SMALL_SPACE)


@pytest.fixture
def parent(template: Path, tmp_path: Path) -> ParentRun:
    shutil.copy(template, tmp_path / "mlflow.db")
    return ParentRun(default_tracking_uri(tmp_path), "metadist")


@pytest.fixture
def context(tmp_path: Path, plan: Plan, parent: ParentRun) -> TrialContext:
    search = create_search(tmp_path / "runs", "s", {"plan": plan.document()})
    tags = parent.open(search, plan)
    return TrialContext(search.path, tmp_path / "data", tracking_uri=parent.uri, tags=tags)


class Killed(BaseException):
    """The end of a process, as far as a test can tell."""


def _silent(line: str) -> None:
    raise AssertionError(line)


def test_a_trial_that_was_begun_with_a_server_and_ended_without_is_sent(
    plan: Plan, parent: ParentRun, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(step: int, score: float) -> bool:
        raise Killed

    def away(*arguments: object, **more: object) -> None:
        raise TrackingError("the server is away")

    with pytest.raises(Killed):
        run_trial(plan, context, 1, POINT, dying)
    run = context.search.run("trial-0001")
    run_id = run.info()["mlflow"]["run_id"]
    with monkeypatch.context() as patch:
        patch.setattr("metadist.driver.tracking.reopen_run", away)
        run_trial(plan, context, 1, POINT, lambda step, score: True)
    assert run.info()["status"] == "finished"
    assert not run.info()["closed"]
    parent.close(context.search, plan, "finished", _silent)
    assert run.info()["closed"]
    assert parent.uri is not None
    client = connect(parent.uri)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(run_id, "val/mse")] == [2, 4, 6]


@pytest.mark.slow
def test_confirmation_goes_on_without_the_server_and_is_sent(
    plan: Plan, parent: ParentRun, context: TrialContext
) -> None:
    away = replace(context, tracking_uri="http://127.0.0.1:9")
    confirm.confirm_run(away, confirm.ConfirmationRun("default-seed1", plan.recipe({}, seed=1)), 3)
    run = context.search.run("default-seed1")
    assert run.info()["mlflow"] is None
    assert list(run.evaluation.glob("val-*.json"))
    parent.close(context.search, plan, "finished", _silent)
    assert parent.uri is not None
    sent = connect(parent.uri).get_run(run.info()["mlflow"]["run_id"])
    assert sent.info.status == "FINISHED"
    assert sent.data.tags["confirmation"] == "default-seed1"
    assert sent.data.tags["mlflow.parentRunId"] == context.tags["mlflow.parentRunId"]


@pytest.mark.parametrize(
    ("status", "shown"), [("finished", "FINISHED"), ("failed", "FAILED"), ("interrupted", "KILLED")]
)
def test_the_parent_ends_as_the_search_has(
    plan: Plan, parent: ParentRun, context: TrialContext, status: str, shown: str
) -> None:
    parent.close(context.search, plan, status, _silent)
    assert parent.uri is not None
    assert connect(parent.uri).get_run(context.tags["mlflow.parentRunId"]).info.status == shown


def test_a_search_keeps_its_store(
    tmp_path: Path, plan: Plan, parent: ParentRun, context: TrialContext
) -> None:
    there = open_search(tmp_path / "runs", "s")
    assert there.info()["tracking_uri"] == parent.uri
    elsewhere = replace(request(tmp_path / "other" / "runs"), offline=False)
    assert store_for(elsewhere, there) == parent.uri
    assert store_for(replace(elsewhere, tracking_uri=parent.uri), there) == parent.uri
    assert store_for(replace(elsewhere, offline=True), there) is None
    with pytest.raises(SpaceError, match="its runs are in sqlite"):
        store_for(replace(elsewhere, tracking_uri="http://localhost:1"), there)


def test_a_password_is_asked_for_again(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "https://me:secret@mlflow.example.org"
    there = create_search(tmp_path, "s", {"tracking_uri": public_uri(secret)})
    asked = replace(request(tmp_path), offline=False)
    with pytest.raises(TrackingError, match=r"password is not kept.*--tracking-uri"):
        store_for(asked, there)
    assert store_for(replace(asked, tracking_uri=secret), there) == secret
    monkeypatch.setenv("MLFLOW_TRACKING_URI", secret)
    assert store_for(asked, there) == secret


def test_a_relative_store_is_the_same_one_for_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = replace(request(tmp_path), offline=False, tracking_uri="sqlite:///a.db?timeout=9")
    assert store_for(asked, None) == f"sqlite:///{tmp_path}/a.db?timeout=9"
