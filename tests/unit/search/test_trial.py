"""A trial in this process: what it reports, repeats, and leaves behind."""

from __future__ import annotations

import errno
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from plugin_files import SIGN_MAML, write
from small_spaces import SMALL_SPACE

from data_pipeline.errors import DamagedData
from metadist.errors import (
    GivenUp,
    PluginError,
    RecipeError,
    ResourceError,
    RunError,
    SupersededError,
)
from metadist.plugins import use
from metadist.runs.log import series
from metadist.search.plan import Plan, make_plan
from metadist.search.search_dir import SearchDir, create_search
from metadist.search.trial import TrialContext, best_so_far, run_trial, validations
from metadist.space import Point

POINT: Point = {"inner.lr": 0.01, "outer.lr": 1e-3}

WILD: Point = {"inner.lr": 1e9, "outer.lr": 1e-1}


class Judge:
    """Remembers what is reported, and says to stop at a step."""

    def __init__(self, stop_at: float = math.inf) -> None:
        self.stop_at = stop_at
        self.said: list[tuple[int, float]] = []

    def __call__(self, step: int, score: float) -> bool:
        self.said.append((step, score))
        return step < self.stop_at


@pytest.fixture
def plan() -> Plan:
    return make_plan("test", SMALL_SPACE)


@pytest.fixture
def context(tmp_path: Path, plan: Plan) -> TrialContext:
    search = create_search(tmp_path / "runs", "s", {"plan": plan.document()})
    return TrialContext(search.path, tmp_path / "data", offline=True)


def _checkpoints(search: SearchDir, name: str) -> list[str]:
    return sorted(p.name for p in (search.run(name).path / "checkpoints").iterdir())


def test_a_trial_reports_its_best_and_is_not_tested(plan: Plan, context: TrialContext) -> None:
    judge = Judge()
    run_trial(plan, context, 1, POINT, judge)
    (record,) = context.search.trials()
    assert [step for step, _ in judge.said] == [2, 4, 6]
    scores = [score for _, score in judge.said]
    assert scores == sorted(scores, reverse=True)
    assert (record.status, record.steps, record.tasks) == ("finished", 6, 12)
    assert record.score == scores[-1]
    run = context.search.run("trial-0001")
    assert run.info()["status"] == "finished"
    assert run.info()["result"]["val_mse"] == scores[-1]
    # Test classes must not be looked at by what is to be chosen.
    assert not run.evaluation.exists()
    assert not [metric for metric in series(run) if metric.startswith("test/")]


def test_a_trial_that_is_told_to_stop_ends_itself(plan: Plan, context: TrialContext) -> None:
    run_trial(plan, context, 1, POINT, Judge(stop_at=4))
    (record,) = context.search.trials()
    assert (record.status, record.steps) == ("stopped", 4)
    run = context.search.run("trial-0001")
    assert run.info()["status"] == "stopped"
    assert "step-00000004" in _checkpoints(context.search, "trial-0001")


def test_what_is_over_is_repeated_and_not_trained_again(plan: Plan, context: TrialContext) -> None:
    first, again = Judge(stop_at=4), Judge()
    run_trial(plan, context, 1, POINT, first)
    before = (context.search.run("trial-0001").path / "run.json").read_bytes()
    run_trial(plan, context, 1, POINT, again)
    assert again.said == first.said
    assert (context.search.run("trial-0001").path / "run.json").read_bytes() == before


class Killed(BaseException):
    """The end of a process, as far as a test can tell."""


def test_a_trial_whose_process_died_goes_on_with_the_same_bits(
    plan: Plan, context: TrialContext
) -> None:
    class Dying(Judge):
        def __call__(self, step: int, score: float) -> bool:
            if step == 4:
                raise Killed
            return super().__call__(step, score)

    run_trial(plan, context, 1, POINT, whole := Judge())
    with pytest.raises(Killed):
        run_trial(plan, context, 2, POINT, Dying())
    assert not context.search.trials()[1].over
    run_trial(plan, context, 2, POINT, again := Judge())
    assert [pair for pair in again.said if pair[0] <= 6] == whole.said
    results = [context.search.run(f"trial-000{n}").info()["result"] for n in (1, 2)]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]


def test_an_order_from_before_the_process_died_is_kept(plan: Plan, context: TrialContext) -> None:
    class Dying(Judge):
        def __call__(self, step: int, score: float) -> bool:
            super().__call__(step, score)
            raise Killed

    with pytest.raises(Killed):
        run_trial(plan, context, 1, POINT, Dying())
    run_trial(plan, context, 1, POINT, Judge(stop_at=2))
    (record,) = context.search.trials()
    assert (record.status, record.steps) == ("stopped", 2)


def test_a_trial_that_diverges_has_failed_and_says_why(plan: Plan, context: TrialContext) -> None:
    judge = Judge()
    run_trial(plan, context, 1, WILD, judge)
    (record,) = context.search.trials()
    assert record.status == "failed"
    assert "not finite" in record.error
    assert record.score is None
    assert math.isnan(judge.said[-1][1])
    repeated = Judge()
    run_trial(plan, context, 1, WILD, repeated)
    assert math.isnan(repeated.said[-1][1])


def test_a_validation_with_failed_functions_is_no_score(plan: Plan, context: TrialContext) -> None:
    run_trial(plan, context, 1, POINT, first := Judge())
    run = context.search.run("trial-0001")
    step = min(first.said, key=lambda said: said[1])[0]
    with (run.log / "0001.jsonl").open("a") as handle:
        handle.write(json.dumps({"step": step, "time": 1, "metrics": {"val/failed": 2}}) + "\n")
    there = {point.step: point.value for point in validations(plan, run)}
    assert math.isnan(there[step])
    assert [k for k, value in there.items() if math.isnan(value)] == [step]
    scores = [score for k, score in first.said if k != step]
    assert best_so_far(plan, run)[-1][1] == min(scores) if step > 2 else True


def test_a_plugin_is_in_use_where_a_trial_runs(tmp_path: Path, context: TrialContext) -> None:
    path = write(tmp_path / "odd_maml.py", SIGN_MAML)
    fixed = {**SMALL_SPACE.fixed, "algorithm.name": "odd_maml"}
    with use([path]):
        plan = make_plan("test", replace(SMALL_SPACE, fixed=fixed))
    run_trial(plan, replace(context, plugins=(str(path),)), 1, POINT, Judge())
    (record,) = context.search.trials()
    assert (record.status, record.error) == ("finished", "")


def test_whatever_goes_wrong_is_written_down(
    plan: Plan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise KeyError("an error of somebody's plugin")

    monkeypatch.setattr("metadist.search.trial.train", broken)
    run_trial(plan, context, 1, POINT, Judge())
    (record,) = context.search.trials()
    assert record.status == "failed"
    assert "KeyError" in record.error
    assert "somebody's plugin" in record.error


def test_who_was_superseded_writes_nothing(
    plan: Plan, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def superseded(*arguments: object, **more: object) -> None:
        raise SupersededError("attempt 2 has taken over")

    monkeypatch.setattr("metadist.search.trial.train", superseded)
    run_trial(plan, context, 1, POINT, Judge())
    (record,) = context.search.trials()
    assert record.status == "running"


def test_a_tracking_server_that_is_away_costs_no_trial(plan: Plan, context: TrialContext) -> None:
    away = replace(context, offline=False, tracking_uri="http://127.0.0.1:9")
    run_trial(plan, away, 1, POINT, Judge())
    (record,) = context.search.trials()
    assert (record.status, record.error) == ("finished", "")
    assert context.search.run("trial-0001").info()["mlflow"] is None


def test_a_run_of_another_point_gives_no_scores(plan: Plan, context: TrialContext) -> None:
    run_trial(plan, context, 1, POINT, old := Judge(stop_at=2))
    (context.search.path / "trials" / "0001.json").unlink()
    context.search.stop_files.mkdir()
    (context.search.stop_files / "0001").touch()
    other: Point = {"inner.lr": 0.02, "outer.lr": 2e-3}
    run_trial(plan, context, 1, other, new := Judge())
    run_trial(plan, context, 2, other, alone := Judge())
    assert new.said == alone.said != old.said
    (record, _) = context.search.trials()
    assert (record.status, record.point, record.score) == ("finished", other, alone.said[-1][1])
    assert not (context.search.stop_files / "0001").exists()
    # It may have taken hours: it is not deleted.
    assert [path.name for path in (context.search.path / "aside").iterdir()] == ["1-trial-0001"]


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        DamagedData("data/strokes: damaged"),
        RunError("the trial has not answered"),
        PluginError("no such module here"),
    ],
)
def test_a_fault_of_the_machine_is_no_score(
    plan: Plan, context: TrialContext, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise fault

    judge = Judge()
    with monkeypatch.context() as patch:
        patch.setattr("metadist.search.trial.scored", broken)  # at its end
        with pytest.raises(ResourceError, match=rf"{re.escape(str(fault))}.*--resume s"):
            run_trial(plan, context, 1, POINT, judge)
    assert [step for step, _ in judge.said] == [2, 4, 6]
    assert all(math.isfinite(score) for _, score in judge.said)
    (record,) = context.search.trials()
    assert (record.status, record.error) == ("running", "")
    run_trial(plan, context, 1, POINT, again := Judge())
    assert again.said == judge.said
    (record,) = context.search.trials()
    assert (record.status, record.score) == ("finished", judge.said[-1][1])


@pytest.mark.parametrize("error", [RecipeError("no such key"), GivenUp("died 3 times")])
def test_what_the_setting_does_wrong_is_its_failure(
    plan: Plan, context: TrialContext, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr("metadist.search.trial.train", broken)
    run_trial(plan, context, 1, POINT, Judge())
    (record,) = context.search.trials()
    assert (record.status, record.error) == ("failed", str(error))
