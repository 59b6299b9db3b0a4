"""A lost or damaged record costs no other trial, and where its run is there not even that one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from search_dirs import add_trial, make_search, rates_plan
from small_spaces import SMALL_SPACE

from metadist.search.plan import Plan, make_plan
from metadist.search.repair import repair_records
from metadist.search.search_dir import SearchDir, TrialRecord
from metadist.search.trial import TrialContext, run_trial
from metadist.space import Choice, Domain, When


def _ended(root: Path, plan: Plan) -> tuple[SearchDir, list[TrialRecord]]:
    """Five trials that are over; their points are those of a random search."""
    random = replace(plan, space=replace(plan.space, searcher="random"))
    search = make_search(root, plan)
    for number in range(1, 6):
        status = "stopped" if number == 5 else "finished"
        add_trial(random, search, number, status=status, steps=200 if number == 5 else 400)
        search.run(f"trial-{number:04d}").update(status=status)
    search.stop_files.mkdir()
    (search.stop_files / "0005").touch()
    return search, search.trials()


def _mend(plan: Plan, search: SearchDir) -> list[str]:
    said: list[str] = []
    repair_records(plan, search, said.append)
    return said


@pytest.mark.parametrize("searcher", ["tpe", "random"])
@pytest.mark.parametrize("text", [None, '{"number": 1}', "[]", ""])
def test_a_record_is_made_again_from_its_run(
    tmp_path: Path, searcher: str, text: str | None
) -> None:
    plan = rates_plan(searcher=searcher)
    search, before = _ended(tmp_path, plan)
    for number in (1, 5):
        if text is None:
            search.record_path(number).unlink()
        else:
            search.record_path(number).write_text(text)
    said = _mend(plan, search)
    assert search.trials() == before
    assert any("trial 1: its record is made again" in line for line in said)
    assert (search.stop_files / "0005").exists()
    assert len(list(search.runs.iterdir())) == 5
    assert _mend(plan, search) == []


def test_a_trial_that_is_lost_costs_no_other(tmp_path: Path) -> None:
    plan = rates_plan(searcher="tpe")
    search, before = _ended(tmp_path, plan)
    search.record_path(2).unlink()
    shutil.rmtree(search.run("trial-0002").path)
    (search.stop_files / "0002").touch()
    _mend(plan, search)
    first, second, *others = search.trials()
    assert [first, *others] == [before[0], *before[2:]]
    assert (second.number, second.status, second.score) == (2, "running", None)
    assert second.point.keys() == before[1].point.keys()
    assert len(list(search.runs.iterdir())) == 4


def test_a_run_that_no_trial_of_this_search_made_is_set_aside(tmp_path: Path) -> None:
    plan = rates_plan(searcher="tpe")
    search, before = _ended(tmp_path, plan)
    search.record_path(5).unlink()
    (search.run("trial-0005").path / "recipe.toml").write_text("[inner")
    _mend(plan, search)
    assert search.trials() == before[:4]
    assert not search.run("trial-0005").path.exists()
    assert [path.name for path in (search.path / "aside").iterdir()] == ["1-trial-0005"]
    assert list(search.stop_files.iterdir()) == []


def test_a_record_of_a_number_that_is_none_is_set_aside(tmp_path: Path) -> None:
    plan = rates_plan(searcher="tpe")
    search, before = _ended(tmp_path, plan)
    search.record(replace(before[0], number=10**12))
    _mend(plan, search)
    assert search.trials() == before


def test_conditions_hold_in_a_point_that_is_read_from_a_run(tmp_path: Path) -> None:
    keys: dict[str, Domain] = {
        "outer.optimizer": Choice("adam", "sgd"),
        "outer.clip": When("outer.optimizer", ("sgd",), Choice(1, 2)),
    }
    plan = make_plan("test", replace(SMALL_SPACE, search=keys))
    for point in ({"outer.optimizer": "adam"}, {"outer.optimizer": "sgd", "outer.clip": 2}):
        assert plan.point_of(plan.recipe(point)) == point


def test_a_trial_made_again_is_repeated_and_not_trained(tmp_path: Path) -> None:
    plan = make_plan("test", SMALL_SPACE)
    search = make_search(tmp_path, plan)
    context = TrialContext(search.path, tmp_path / "data", offline=True)
    said: list[tuple[int, float]] = []

    def report(step: int, score: float) -> bool:
        said.append((step, score))
        return True

    run_trial(plan, context, 1, {"inner.lr": 0.01, "outer.lr": 1e-3}, report)
    before, told = search.trials(), said.copy()
    search.record_path(1).write_text("")
    _mend(plan, search)
    assert search.trials() == before
    run_trial(plan, context, 1, before[0].point, report)
    assert said == 2 * told
    assert search.run("trial-0001").latest_attempt() == 1
