"""The report of a search: complete, self-contained, and honest about what is missing."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from report_page import Page
from search_dirs import (
    MANY,
    a_result,
    add_trial,
    conclude,
    error_of,
    finished_search,
    make_search,
    points_of,
    rates_plan,
)

from metadist.cli.main import main
from metadist.errors import SpaceError
from metadist.runs.log import Point
from metadist.search.plan import make_plan
from metadist.search.report import write_search_report
from metadist.search.report.data import SearchData, TrialData, search_data
from metadist.search.report.importance import Importance, importances
from metadist.search.report.progress import spent
from metadist.search.report.result_schema import read_found
from metadist.search.search_dir import SearchDir, TrialRecord
from metadist.space import Population


def said(search: SearchDir) -> Page:
    """The page of a search; one that cannot be written fails the test."""
    lines: list[str] = []
    write_search_report(search, lines.append)
    assert lines == [f"Report: {search.report}"]
    return Page(search.report.read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SearchDir:
    """A search that has ended; not to be altered."""
    return finished_search(tmp_path_factory.mktemp("made"))


@pytest.fixture
def search(made: SearchDir, tmp_path: Path) -> SearchDir:
    """A copy that a test may alter."""
    return SearchDir(Path(shutil.copytree(made.path, tmp_path / "searches" / "demo")))


def test_a_finished_search_is_told_whole(search):
    page = said(search)
    best = min((t for t in search.trials() if t.score is not None), key=lambda t: t.score)
    for words in (
        "12 of 12 trials of 400 outer steps",
        "the setting found, 2 seeds, interval over seeds",
        "the default, 2 seeds, interval over seeds",
        "mean over seeds, interval over seeds",
        "better; interval over seeds)",
        "better: found minus default on the same 50 fresh validation episodes",
        "by seed: −1.60 ± 0.20; −1.40 ± 0.20",
        f"metadist train {search.best}",
        f"{best.number} ◂ found",
        f"{best.point['inner.lr']:.3g}",
        "failed, no score",
        "stopped early",
        "the loss is not finite at step 7",
        "7 finished, 4 stopped early, 1 failed",
        "Best validation mean squared error in each cell",
        "Asha: grace 1, reduction 3",
    ):
        assert words in page.text, words
    assert "Within noise" not in page.text
    assert "Not shown" not in page.text
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") for link in page.links)
    figures = {"history", "budget", "parallel", "plane", "importance", "trials", "anew"}
    assert {p.stem for p in search.figures.glob("*.svg")} == figures
    assert figures <= set(page.ids)
    text = search.report.read_bytes()
    said(search)
    assert search.report.read_bytes() == text


def test_what_was_stopped_early_was_not_paid_for(search):
    page = said(search)
    tasks = sum(t.tasks for t in search.trials())
    assert f"{tasks:,} tasks spent on trials" in page.text
    share = round(100 * tasks / (12 * 400 * 25))
    assert f"{share} % of the 120,000 tasks" in page.text


def test_accuracies_and_conditions_of_eight_keys(tmp_path):
    page = said(finished_search(tmp_path, make_plan("many", MANY, seed=0)))
    for words in ("not set", "points", "share of queries that are right", "cosine", "cells, %"):
        assert words.replace("cells, %", "in each cell, %") in page.text, words
    for key in MANY.search:
        assert key in page.text


def test_a_population_shows_the_schedules_of_its_rates(tmp_path):
    plan = rates_plan(scheduler=Population(interval=1), trials=4)
    search = make_search(tmp_path, plan)
    records = [add_trial(plan, search, number) for number in range(1, 5)]
    page = said(search)
    assert "Schedules" not in page.text
    best = min(records, key=lambda t: t.score or math.inf)
    changed = {**best.point, "outer.lr_changes": "100: 0.004, 300: 0.0005"}
    records[best.number - 1] = replace(best, point=changed)
    search.record(records[best.number - 1])
    conclude(plan, search, records)
    page = said(search)
    assert f"trial {best.number}, found" in page.text
    assert "outer.lr over outer steps" in page.text
    assert "100: 0.004, 300: 0.0005" in page.text
    assert "the rates of a population change" in page.text
    # What somebody has altered is no schedule, and no harm.
    search.record(replace(best, point={**changed, "outer.lr_changes": "soon: 3"}))
    assert "Schedules" not in said(search).text


def test_one_key_has_no_plane(tmp_path):
    plan = rates_plan(search={"outer.lr": rates_plan().space.search["outer.lr"]})
    search = make_search(tmp_path, plan)
    for number, score in ((1, 0.5), (2, 0.7)):
        search.record(
            replace(
                TrialRecord(number, points_of(plan)[number - 1], f"trial-{number:04d}", "finished"),
                score=score,
                steps=400,
                tasks=10_000,
            )
        )
    page = said(search)
    assert "nothing to compare it with" in page.text
    assert "in each cell" not in page.text
    assert "it chose itself: not confirmed" in page.text


def test_a_search_without_trials(tmp_path):
    page = said(make_search(tmp_path, rates_plan()))
    assert "No trial has begun" in page.text
    assert "This search is not finished." in page.text


@pytest.mark.parametrize("status", ["failed", "running"])
def test_a_search_in_which_no_trial_has_a_score(tmp_path, status):
    plan = rates_plan()
    search = make_search(tmp_path, plan)
    for number in (1, 2):
        record = add_trial(plan, search, number, status="failed")
        search.record(replace(record, status=status))
    search.update(status="failed")
    page = said(search)
    assert "no trial has one yet" in page.text
    assert "This search ended early." in page.text
    assert ("Failed trials. 2 of 2: 2 × the loss" in page.text) == (status == "failed")


def test_an_interrupted_search_is_a_report_of_what_there_is(tmp_path):
    plan = rates_plan()
    search = make_search(tmp_path, plan)
    for number in (1, 2, 3):
        add_trial(plan, search, number)
    # A trial that has not ended has no figures in its record; its log tells them.
    search.record(TrialRecord(3, points_of(plan)[2], "trial-0003", "running"))
    third = search_data(search).trials[2]
    assert third.score == pytest.approx(error_of(points_of(plan)[2]))
    assert (third.best_step, third.steps, third.tasks) == (400, 400, 10_000)
    search.update(status="interrupted")
    page = said(search)
    assert "This search was interrupted." in page.text
    assert "3 of 12 trials" in page.text
    assert "not ended" in page.text
    assert "Not shown: 3 trials have a score" in page.text


def test_noise_seeds_and_ends_of_domains_are_warned_of(search):
    result = search.info()["result"]
    result["within_noise"] = True
    result["against_default"]["by_seed"][0]["mean"] = 0.5
    result["point"]["inner.lr"] = 0.99
    search.update(result=result)
    page = said(search)
    assert "Within noise of the next." in page.text
    assert "Seeds disagree. With 1 of 2 seeds" in page.text
    assert "At the end of its domain. inner.lr = 0.99" in page.text


def test_a_choice_that_was_not_confirmed(search):
    result = search.info()["result"]
    for name in ("against_default", "best_test", "best_validation", "default_test"):
        del result[name]
    search.update(result={**result, "best": [], "default": []})
    page = said(search)
    assert "Not trained anew." in page.text
    assert "mean squared error of trial" in page.text


@pytest.mark.parametrize(
    "change",
    [
        {"trial": "4"},
        {"top": None},
        {"point": {"inner.lr": [1]}},
        {"best_test": {"mean": "x", "ci95": 0, "over": ""}},
        {"best": [{"run": "best-seed1"}]},
        {"against_default": {"mean": 1.0, "ci95": True, "n": 1, "left_out": 0, "by_seed": []}},
    ],
)
def test_a_damaged_result_is_no_result(made, change):
    result = made.info()["result"]
    read_found(result)
    with pytest.raises(ValueError, match=r"needed|Error"):
        read_found({**result, **change})


@pytest.mark.parametrize("result", [7, {}])
def test_a_damaged_result_is_noted(search, result):
    search.update(result=result)
    (search.path / "trials" / "0003.json").write_text("{")
    page = said(search)
    assert "The result in search.json cannot be read" in page.text
    assert "it chose itself: not confirmed" in page.text
    assert "The record of a trial, 0003.json, cannot be read" in page.text


def test_a_run_is_looked_for_in_the_search_only(search):
    result = search.info()["result"]
    outside = {**result["best"][0], "run": "../runs/best-seed1"}
    search.update(result={**result, "best": [outside]})
    assert [run.setting for run in search_data(search).confirmed] == ["default", "default"]


@pytest.mark.parametrize(
    "change",
    [
        {"score": "good"},
        {"score": 1e999},
        {"steps": -1},
        {"number": "2"},
        {"status": "sleeping"},
        {"point": [1, 2]},
        {"point": {"inner.lr": None}},
        {"error": 3},
        {"surprise": 1},
    ],
)
def test_a_damaged_record_is_noted(search, change):
    path = search.path / "trials" / "0004.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    data = search_data(search)
    assert len(data.trials) == 11
    (note,) = data.notes
    assert note.startswith("The record of a trial, 0004.json, cannot be read")


def test_values_that_are_not_of_the_space(search):
    path = search.path / "trials" / "0004.json"
    record = json.loads(path.read_text())
    record["point"] = {"inner.lr": "<b>", "outer.optimizer": "adam"}
    path.write_text(json.dumps(record))
    page = said(search)
    assert "&lt;b&gt;" in search.report.read_text()
    assert "a trial does not fit the space" in page.text


def test_runs_that_are_gone_or_damaged(search):
    shutil.rmtree(search.run("trial-0001").path)
    (search.run("trial-0004").path / "attempts" / "0001.json").write_text("{")
    (search.run("best-seed1").path / "recipe.toml").write_text("[")
    search.best.unlink()
    page = said(search)
    assert "The metric log of trial-0004 cannot be read" in page.text
    assert "The recipe of best-seed1 cannot be read" in page.text
    assert "metadist train" not in page.text


def test_texts_are_escaped(search):
    evil = "</td><script>alert(1)</script>"
    record = search.trials()[1]
    search.record(replace(record, error=evil))
    plan = search.info()["plan"]
    search.update(plan={**plan, "declared": {**plan["declared"], "about": evil}})
    said(search)
    assert "<script" not in search.report.read_text()


def test_without_its_record_there_is_no_report(search, caplog):
    (search.path / "search.json").write_text("{}")
    with pytest.raises(SpaceError, match="format 1"):
        search_data(search)
    write_search_report(search, lambda line: pytest.fail(line))
    assert "the report could not be written" in caplog.text
    assert not search.report.exists()


def test_the_command_writes_it_again(search, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "searches/demo"):
        result = CliRunner().invoke(main, ["report", name, "--runs-dir", "."])
        assert result.output.strip() == str(search.report), result.output
    assert search.report.is_file()
    result = CliRunner().invoke(main, ["report", "none", "--runs-dir", "."])
    assert result.exit_code != 0
    assert "no run 'none'" in result.output


def test_tasks_are_counted_as_they_came():
    def trial(number: int, times: list[int], scores: list[float], tasks: int) -> TrialData:
        curve = [
            Point("val/mse", 10 * (i + 1), t, s)
            for i, (t, s) in enumerate(zip(times, scores, strict=True))
        ]
        return TrialData(
            number,
            {},
            "trial-0001",
            "finished",
            min(scores),
            10,
            10 * len(times),
            tasks,
            curve=curve,
        )

    trials = (trial(1, [1, 4], [3.0, 2.0], 40), trial(2, [2, 3], [math.nan, 2.5], 60))
    data = SearchData("s", "finished", "", rates_plan(), trials=trials)
    assert spent(data) == ([20, 50, 80, 100], [3.0, 3.0, 2.5, 2.0])


def test_tasks_spent_are_those_of_the_records(search):
    data = search_data(search)
    tasks, best = spent(data)
    assert tasks[-1] == sum(t.tasks for t in search.trials())
    assert best[-1] == pytest.approx(data.ranked()[0].score)
    assert tasks == sorted(tasks)


def of_scores(how, trials: int = 40) -> SearchData:
    plan = rates_plan(trials=trials)
    found = tuple(
        TrialData(i, point, f"trial-{i:04d}", "finished", how(point), 400, 400, 10_000)
        for i, point in enumerate(points_of(plan), 1)
    )
    return SearchData("s", "finished", "", plan, trials=found)


def measured(data: SearchData) -> list[Importance]:
    found = importances(data)
    assert isinstance(found, list), found
    return found


def test_the_key_that_decides_is_the_important_one():
    pytest.importorskip("optuna")
    first, second = measured(of_scores(lambda p: abs(math.log(p["outer.lr"]) + 5)))
    assert (first.key, first.clear) == ("outer.lr", True)
    assert (second.key, second.clear) == ("inner.lr", False)
    assert first.share + second.share == pytest.approx(1.0)
    first, _ = measured(of_scores(lambda p: abs(math.log(p["inner.lr"]) + 5)))
    assert (first.key, first.clear) == ("inner.lr", True)


def test_more_is_better_where_it_is():
    pytest.importorskip("optuna")
    data = of_scores(lambda p: -abs(math.log(p["outer.lr"]) + 5))
    first, _ = measured(
        replace(data, plan=replace(data.plan, space=replace(data.space, mode="max")))
    )
    assert (first.key, first.clear) == ("outer.lr", True)


def test_importance_of_few_trials_or_without_optuna(monkeypatch):
    assert "7 trials have a score" in str(importances(of_scores(error_of, 7)))
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'metadist[tune]'" in str(importances(of_scores(error_of, 8)))


def test_the_result_here_is_as_the_search_writes_it():
    """The search's own words for people read the same result."""
    from metadist.search.summary import text

    plan = rates_plan()
    trial = TrialRecord(1, points_of(plan)[0], "trial-0001", "finished", 0.7)
    facts = {"search": "s", "trials": {"finished": 1}, "tasks": 1, "best_recipe": "best.toml"}
    lines = text({**facts, **a_result(trial, [trial])})
    assert any("better" in line for line in lines)


def test_classes_stand_beside_what_was_found(tmp_path):
    from metadist.search.summary import text

    plan = rates_plan()
    search = make_search(tmp_path, plan)
    trials = [add_trial(plan, search, n) for n in range(1, plan.trials + 1)]
    conclude(plan, search, trials)
    assert "not recorded" not in said(search).text  # functions have no classes
    result = {**search.info()["result"], "metric": "val/accuracy"}
    facts = {"search": "s", "trials": {"finished": 1}, "tasks": 1, "best_recipe": "best.toml"}
    lines = "\n".join(text({**facts, **result}))
    assert "fresh validation episodes, number of classes not recorded" in lines
    told = {"val": {"ways": 5, "classes": 16}, "test": {"ways": 5, "classes": 30}}
    lines = "\n".join(text({**facts, **result, "of_classes": told}))
    assert " fresh validation episodes of 16 classes" in lines
    assert re.search(r"^Best setting, .*, test .* of 30 classes \(interval", lines, re.MULTILINE)
    assert "Warning: 16 validation classes are fewer than 5 x 5 ways" in lines
    assert "30 test classes are fewer" not in lines
    search.update(result={**search.info()["result"], "of_classes": told})
    page = said(search).text
    for words in (
        "on test episodes of 30 classes, the setting found",
        "50 fresh validation episodes of 16 classes, mean over seeds",
        "16 validation classes are fewer than 5 x 5 ways",
    ):
        assert words in page, words


def test_a_tie_of_records_is_no_problem(tmp_path):
    plan = rates_plan(searcher="grid")
    search = make_search(tmp_path, plan)
    records = [add_trial(plan, search, n) for n in range(1, plan.trials + 1)]
    conclude(plan, search, records)
    assert "which are those of a grid" in said(search).text
