"""A search as Optuna's dashboard and its figures have it."""

from __future__ import annotations

import json
from dataclasses import replace

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from search_dirs import MANY, finished_search, points_of, rates_plan

from metadist.search.plan import make_plan
from metadist.search.report import report_again
from metadist.search.report.data import search_data
from metadist.search.report.landscape import plane, plane_keys, scored_study
from metadist.search.report.study import as_study
from metadist.search.search_dir import TrialRecord
from metadist.space import Choice

pytestmark = pytest.mark.drawn(False)


@pytest.mark.slow
def test_the_journal_beside_the_report_is_the_search(search):
    search.record(TrialRecord(12, points_of(rates_plan())[11], "trial-0012", "running"))
    for _ in range(2):  # a search that goes on has each trial once
        assert report_again(search.path, str(search.path)) == search.report
    storage = JournalStorage(JournalFileBackend(str(search.journal)))
    study = optuna.load_study(study_name="demo", storage=storage)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    records = search.trials()
    assert [t.params for t in study.trials] == [record.point for record in records]
    states = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED,
              "failed": TrialState.FAIL, "running": TrialState.RUNNING}  # fmt: skip
    assert [t.state for t in study.trials] == [states[record.status] for record in records]
    best = min((t for t in records if t.status == "finished"), key=lambda t: t.score)
    assert study.best_value == best.score
    assert study.best_trial.user_attrs["run"] == best.run
    assert sorted(study.best_trial.intermediate_values) == [100, 200, 300, 400]
    assert study.best_trial.intermediate_values[400] == pytest.approx(best.score)
    assert study.trials[0].distributions["inner.lr"] == optuna.distributions.FloatDistribution(
        1e-4, 1.0, log=True
    )


def test_conditions_choices_and_schedules(tmp_path):
    search = finished_search(tmp_path, make_plan("many", MANY, seed=0))
    study = as_study(search_data(search))
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [t.params for t in study.trials] == [record.point for record in search.trials()]
    first = search.trials()[0]
    search.record(replace(first, point={**first.point, "inner.lr_changes": "100: 0.1"}))
    path = search.record_path(3)
    path.write_text(json.dumps({**json.loads(path.read_text()), "point": {"inner.lr": "<b>"}}))
    again = as_study(search_data(search))
    assert again.trials[0].user_attrs["inner.lr_changes"] == "100: 0.1"
    assert len(again.trials) == len(study.trials) - 1  # what does not fit the space is left out


def test_figures_have_every_score_but_the_worst_quarter(search):
    data = search_data(search)
    ranked = [t.score for t in data.ranked()]
    assert [t.value for t in scored_study(data).trials] == [*ranked[:9], ranked[8], ranked[8]]


def test_rates_come_first_and_choices_never(search, tmp_path):
    data = search_data(search)
    keys = plane_keys(data, scored_study(data))
    assert keys == ["inner.lr", "outer.lr"]
    many = search_data(finished_search(tmp_path / "many", make_plan("many", MANY, seed=0)))
    assert plane_keys(many, scored_study(many)) == ["inner.lr", "inner.steps"]
    chosen = replace(data.space, search={**data.space.search, "outer.lr": Choice(0.1, 0.2)})
    one = replace(data, plan=replace(data.plan, space=chosen))
    assert plane_keys(one, scored_study(data)) == []


@pytest.mark.parametrize(("value", "outside"), [(0.01, False), (5.0, True), (0.0, True)])
def test_a_default_beyond_what_was_tried_is_outside(search, value, outside):
    data = search_data(search)
    data = replace(data, default={"inner.lr": value, "outer.lr": 0.001})
    study = scored_study(data)
    assert plane(data, study, ["inner.lr", "outer.lr"], {})[1] == outside
