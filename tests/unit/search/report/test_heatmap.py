"""The plane of two searched keys: which cell a trial is in, and which cell is best."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from search_dirs import MANY, error_of, points_of, rates_plan

from metadist.search.plan import Plan
from metadist.search.report.data import SearchData, TrialData
from metadist.search.report.heatmap import cell_map, default_is_outside
from metadist.search.report.scales import Scale, key_axis
from metadist.space import Choice, Integers, LogUniform, Space, Uniform, When

DEFAULT = {"inner.lr": 0.01, "outer.lr": 0.001}


def data_of(space: Space, points, how=error_of, **more) -> SearchData:
    trials = tuple(
        TrialData(i, point, f"trial-{i:04d}", "finished", how(point), 400, 400, 10_000)
        for i, point in enumerate(points, 1)
    )
    return SearchData("s", "finished", "", Plan("p", space, ""), trials=trials, **more)


def test_a_grid_has_a_cell_for_every_point():
    plan = rates_plan(searcher="grid")
    data = data_of(plan.space, points_of(plan), default=DEFAULT)
    cells = cell_map(data)
    assert cells is not None
    assert cells.exact
    assert (cells.x_key, cells.y_key) == ("inner.lr", "outer.lr")
    assert len(cells.cells) == 25
    for cell in cells.cells:
        (number,) = cell.trials
        point = points_of(plan)[number - 1]
        assert cell.x[0] < point["inner.lr"] < cell.x[1]
        assert cell.y[0] < point["outer.lr"] < cell.y[1]
        assert cell.score == error_of(point)
    best = cells.best(data)
    assert best is not None
    assert best.score == min(map(error_of, points_of(plan)))
    assert not default_is_outside(data, cells)


def test_the_best_cell_beats_the_default():
    plan = rates_plan(trials=60)
    cells = cell_map(data_of(plan.space, points_of(plan)))
    assert cells is not None
    assert not cells.exact
    best = cells.best(data_of(plan.space, points_of(plan)))
    assert best is not None
    assert best.score is not None
    assert best.score < error_of(DEFAULT)
    # The ideal is where errors are made up to be least.
    assert best.y[0] <= 10**-2.6 <= best.y[1]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_every_trial_is_in_one_cell_and_the_best_of_it_is_its_score(mode):
    plan = rates_plan(trials=50)
    space = replace(plan.space, mode=mode)
    data = data_of(space, points_of(plan))
    cells = cell_map(data)
    assert cells is not None
    assert sorted(n for c in cells.cells for n in c.trials) == list(range(1, 51))
    for cell in cells.cells:
        points = [points_of(plan)[n - 1] for n in cell.trials]
        scores = [error_of(p) for p in points]
        assert cell.score == (min(scores) if mode == "min" else max(scores))
        assert cell.best is not None
        assert error_of(points_of(plan)[cell.best - 1]) == cell.score
        for point in points:
            assert cell.x[0] * 0.999 <= point["inner.lr"] <= cell.x[1] * 1.001
            assert cell.y[0] * 0.999 <= point["outer.lr"] <= cell.y[1] * 1.001


def test_trials_without_a_score_or_without_the_key_have_no_say():
    plan = rates_plan(trials=3)
    data = data_of(plan.space, points_of(plan))
    trials = [
        replace(data.trials[0], score=None, status="failed"),
        replace(data.trials[1], point={"inner.lr": 0.1}),
        data.trials[2],
    ]
    cells = cell_map(replace(data, trials=tuple(trials)))
    assert cells is not None
    assert sorted(n for c in cells.cells for n in c.trials) == [1, 3]
    best = cells.best(data)
    assert best is not None
    assert best.best == 3
    empty = cell_map(replace(data, trials=()))
    assert empty is not None
    assert empty.best(data) is None


def test_rates_come_first_and_choices_never():
    many = cell_map(data_of(MANY, []))
    assert many is not None
    assert (many.x_key, many.y_key) == ("inner.lr", "inner.steps")
    rates = {**MANY.search, "outer.lr": LogUniform(1e-4, 1e-2)}
    both = cell_map(data_of(replace(MANY, search=rates), []))
    assert both is not None
    assert (both.x_key, both.y_key) == ("inner.lr", "outer.lr")
    assert cell_map(data_of(replace(MANY, search={"a.b": Choice(1, 2)}), [])) is None


def test_a_default_beyond_the_domains_is_outside():
    plan = rates_plan(trials=3)
    for value, outside in ((5.0, True), (1.0, False), (0.0, True)):
        data = data_of(plan.space, points_of(plan), default={**DEFAULT, "inner.lr": value})
        cells = cell_map(data)
        assert cells is not None
        assert default_is_outside(data, cells) == outside


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(1e-4, 1.0, True), (0.3, 0.5, True), (0.95, 0.96, True), (1e-9, 1e9, True),
     (0.0, 1.0, False), (-3.0, 400.0, False), (0.0, 1e-12, False)],
)  # fmt: skip
def test_ticks_are_round_and_within(low, high, log):
    scale = Scale(low, high, log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 9
    places = [scale.place(t) for t in ticks]
    assert places == sorted(places)
    assert places[0] >= -1e-6
    assert places[-1] <= 1 + 1e-6
    np.testing.assert_allclose([scale.value(p) for p in places], ticks, rtol=1e-9, atol=1e-24)


def test_places_of_values():
    assert key_axis(LogUniform(1e-4, 1.0)).place(1e-2) == pytest.approx(0.5)
    assert key_axis(Uniform(0.0, 4.0)).place(1) == pytest.approx(0.25)
    assert key_axis(Integers(1, 64, log=True)).place(8) == pytest.approx(0.5)
    axis = key_axis(When("a.b", (1,), Choice("x", True, 1)))
    assert [axis.place(v) for v in ("x", True, 1)] == [0.0, 0.5, 1.0]
    assert math.isnan(axis.place("y"))
    for odd in (None, True, "1", -1.0, math.nan):
        assert math.isnan(key_axis(LogUniform(1e-4, 1.0)).place(odd))
