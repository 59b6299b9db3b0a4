"""The report of a search: complete, self-contained, and honest about what is missing."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner
from report_page import search_page
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
from metadist.objectives import Metric
from metadist.search.plan import make_plan, plan_of
from metadist.search.report.data import search_data
from metadist.search.search_dir import TrialRecord
from metadist.space import Population

# Of most pages the text is looked at.
pytestmark = pytest.mark.drawn(False)


@pytest.mark.drawn
def test_a_finished_search_is_told_whole(search):
    page = search_page(search)
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
        "Validation mean squared error by two keys",
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
    search_page(search)
    assert search.report.read_bytes() == text


@pytest.mark.slow
def test_what_was_stopped_early_was_not_paid_for(search):
    page = search_page(search)
    tasks = sum(t.tasks for t in search.trials())
    assert f"{tasks:,} tasks spent on trials" in page.text
    share = round(100 * tasks / (12 * 400 * 25))
    assert f"{share} % of the 120,000 tasks" in page.text


@pytest.mark.slow
def test_accuracies_and_conditions_of_eight_keys(tmp_path):
    page = search_page(finished_search(tmp_path, make_plan("many", MANY, seed=0)))
    for words in ("not set", "points", "Validation accuracy of", "cosine", "“None”"):
        assert words in page.text, words
    for key in MANY.search:
        assert key in page.text


@pytest.mark.slow
@pytest.mark.drawn
def test_a_population_shows_the_schedules_of_its_rates(tmp_path):
    plan = rates_plan(scheduler=Population(interval=1), trials=4)
    search = make_search(tmp_path, plan)
    records = [add_trial(plan, search, number) for number in range(1, 5)]
    page = search_page(search)
    assert "Schedules" not in page.text
    best = min(records, key=lambda t: t.score or math.inf)
    changed = {**best.point, "outer.lr_changes": "100: 0.004, 300: 0.0005"}
    records[best.number - 1] = replace(best, point=changed)
    search.record(records[best.number - 1])
    conclude(plan, search, records)
    page = search_page(search)
    assert f"trial {best.number}, found" in page.text
    assert "outer.lr over outer steps" in page.text
    assert "100: 0.004, 300: 0.0005" in page.text
    assert "the rates of a population change" in page.text
    # What somebody has altered is no schedule, and no harm.
    search.record(replace(best, point={**changed, "outer.lr_changes": "soon: 3"}))
    assert "Schedules" not in search_page(search).text


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
    page = search_page(search)
    assert "nothing to compare it with" in page.text
    assert "by two keys" not in page.text
    assert "it chose itself: not confirmed" in page.text


def test_a_search_without_trials(tmp_path):
    page = search_page(make_search(tmp_path, rates_plan()))
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
    page = search_page(search)
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
    page = search_page(search)
    assert "This search was interrupted." in page.text
    assert "3 of 12 trials" in page.text
    assert "not ended" in page.text
    assert "Not shown: 3 trials have a score" in page.text


@pytest.mark.slow
def test_noise_seeds_and_ends_of_domains_are_warned_of(search):
    result = search.info()["result"]
    result["within_noise"] = True
    result["against_default"]["by_seed"][0]["mean"] = 0.5
    result["point"]["inner.lr"] = 0.99
    search.update(result=result)
    page = search_page(search)
    assert "Within noise of the next." in page.text
    assert "Seeds disagree. With 1 of 2 seeds" in page.text
    assert "At the end of its domain. inner.lr = 0.99" in page.text


@pytest.mark.slow
def test_a_choice_that_was_not_confirmed(search):
    result = search.info()["result"]
    for name in ("against_default", "best_test", "best_validation", "default_test"):
        del result[name]
    search.update(result={**result, "best": [], "default": []})
    page = search_page(search)
    assert "Not trained anew." in page.text
    assert "mean squared error of trial" in page.text


@pytest.mark.slow
def test_the_command_writes_it_again(search, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "searches/demo"):
        result = CliRunner().invoke(main, ["report", name, "--runs-dir", "."])
        assert result.output.strip() == str(search.report), result.output
    assert search.report.is_file()
    result = CliRunner().invoke(main, ["report", "none", "--runs-dir", "."])
    assert result.exit_code != 0
    assert "no run 'none'" in result.output


def test_the_result_here_is_as_the_search_writes_it():
    """The search's own words for people read the same result."""
    from metadist.search.summary import text

    plan = rates_plan()
    trial = TrialRecord(1, points_of(plan)[0], "trial-0001", "finished", 0.7)
    facts = {"search": "s", "trials": {"finished": 1}, "tasks": 1, "best_recipe": "best.toml"}
    lines = text({**facts, **a_result(trial, [trial])})
    assert any("better" in line for line in lines)


@pytest.mark.slow
def test_classes_stand_beside_what_was_found(tmp_path):
    from metadist.search.summary import text

    plan = rates_plan()
    search = make_search(tmp_path, plan)
    trials = [add_trial(plan, search, n) for n in range(1, plan.trials + 1)]
    conclude(plan, search, trials)
    assert "not recorded" not in search_page(search).text  # functions have no classes
    result = {**search.info()["result"], "metric": "val/accuracy"}
    facts = {"search": "s", "trials": {"finished": 1}, "tasks": 1, "best_recipe": "best.toml"}
    lines = "\n".join(text({**facts, **result}))
    assert "fresh validation episodes, number of classes not recorded" in lines
    assert "not recorded" not in "\n".join(text({**facts, **result, "labels": False}))
    told = {"val": {"ways": 5, "classes": 16}, "test": {"ways": 5, "classes": 30}}
    lines = "\n".join(text({**facts, **result, "of_classes": told}))
    assert " fresh validation episodes of 16 classes" in lines
    assert re.search(r"^Best setting, .*, test .* of 30 classes \(interval", lines, re.MULTILINE)
    assert "Warning: 16 validation classes are fewer than 5 x 5 ways" in lines
    assert "30 test classes are fewer" not in lines
    search.update(result={**search.info()["result"], "of_classes": told})
    page = search_page(search).text
    for words in (
        "on test episodes of 30 classes, the setting found",
        "50 fresh validation episodes of 16 classes, mean over seeds",
        "16 validation classes are fewer than 5 x 5 ways",
    ):
        assert words in page, words


@pytest.mark.slow
def test_a_tie_of_records_is_no_problem(tmp_path):
    plan = rates_plan(searcher="grid")
    search = make_search(tmp_path, plan)
    records = [add_trial(plan, search, n) for n in range(1, plan.trials + 1)]
    conclude(plan, search, records)
    assert "by two keys" in search_page(search).text


@pytest.mark.slow
@pytest.mark.drawn
def test_a_strangers_metric_is_told_as_the_search_recorded_it(tmp_path):
    """A share of which more is better, whose failed episodes count."""
    from metadist.search.summary import text

    hits = Metric("hits", "hits among five", higher_is_better=True, percent=True, failed=0.0)
    plan = make_plan("many", replace(MANY, metric="val/hits"), seed=3)
    assert plan.metric == Metric("hits", "hits", higher_is_better=True)
    plan = replace(plan, measured=hits.as_dict())
    again = plan_of(json.loads(json.dumps(plan.document())))
    assert (again, again.metric) == (plan, hits)
    search = finished_search(tmp_path, plan)
    page = search_page(search)
    for words in (
        "hits among five on test episodes",
        "Best validation hits among five of each trial",
        "Validation hits among five of the trials",
        "val/hits, more is better",
    ):
        assert words in page.text, words
    assert "%" in page.text
    assert "accuracy" not in page.text
    facts = {"search": "s", "trials": {"finished": 1}, "tasks": 1, "best_recipe": "best.toml"}
    result = {**search.info()["result"], "measured": hits.as_dict(), **facts}
    assert re.search(r"test \d+\.\d ± 7\.0 %", "\n".join(text(result)))


def test_a_metric_of_another_form_is_refused():
    for wrong in ("test/accuracy", "accuracy", "val/", "val/<b>"):
        with pytest.raises(SpaceError, match="metric: as 'val/accuracy'"):
            rates_plan(metric=wrong)
