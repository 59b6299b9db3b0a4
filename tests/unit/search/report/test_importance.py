"""Which key decides, and what a search has spent."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
from report_page import search_page
from search_dirs import (
    error_of,
    points_of,
    rates_plan,
)

from metadist.runs.log import Point
from metadist.search.report.data import SearchData, TrialData, search_data
from metadist.search.report.importance import Importance, importances
from metadist.search.report.landscape import scored_study
from metadist.search.report.progress import spent


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
    found = importances(data, scored_study(data))
    assert isinstance(found, list), found
    return found


def test_the_key_that_decides_is_the_important_one():
    first, second = measured(of_scores(lambda p: abs(math.log(p["outer.lr"]) + 5)))
    assert (first.key, first.clear) == ("outer.lr", True)
    assert (second.key, second.clear) == ("inner.lr", False)
    assert first.share + second.share == pytest.approx(1.0)
    first, _ = measured(of_scores(lambda p: abs(math.log(p["inner.lr"]) + 5)))
    assert (first.key, first.clear) == ("inner.lr", True)


def test_more_is_better_where_it_is():
    data = of_scores(lambda p: -abs(math.log(p["outer.lr"]) + 5))
    first, _ = measured(
        replace(data, plan=replace(data.plan, space=replace(data.space, mode="max")))
    )
    assert (first.key, first.clear) == ("outer.lr", True)


def test_importance_of_few_trials():
    data = of_scores(error_of, 7)
    assert "7 trials have a score" in str(importances(data, scored_study(data)))


def test_without_optuna_there_is_the_rest(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    page = search_page(search)
    assert "Not shown: it needs Optuna" in page.text
    assert "pip install 'metadist[tune]'" in page.text
    assert {"history", "budget", "trials", "anew"} == {p.stem for p in search.figures.iterdir()}
    assert not search.journal.exists()
