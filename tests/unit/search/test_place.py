"""The directory of a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_spaces import SMALL_SPACE

from metadist.errors import RunError, SpaceError
from metadist.search.place import TrialRecord, create_search, open_search, ranked
from metadist.search.plan import make_plan, plan_of
from metadist.space import Choice, Domain, When


def test_records_come_back_in_order(tmp_path: Path) -> None:
    search = create_search(tmp_path, "s", {"plan": {}})
    for number in (11, 2, 1):
        search.record(
            TrialRecord(number, {"inner.lr": 0.1 + 0.2}, f"trial-{number:04d}", "running")
        )
    search.record(TrialRecord(2, {}, "trial-0002", "finished", score=0.5, steps=4, tasks=8))
    found = search.trials()
    assert [t.number for t in found] == [1, 2, 11]
    assert found[1].over
    assert found[1].score == 0.5
    assert found[0].point == {"inner.lr": 0.1 + 0.2}
    assert not found[0].over


def test_a_name_is_used_once_and_found_by_name_and_path(tmp_path: Path) -> None:
    search = create_search(tmp_path, "s", {})
    with pytest.raises(SpaceError, match=r"exists already.*--resume s"):
        create_search(tmp_path, "s", {})
    assert open_search(tmp_path, "s").path == open_search(tmp_path, str(search.path)).path
    with pytest.raises(SpaceError, match="there are: s"):
        open_search(tmp_path, "t")
    with pytest.raises(RunError, match="letters, digits"):
        create_search(tmp_path, "../s", {})


def test_damage_is_named(tmp_path: Path) -> None:
    search = create_search(tmp_path, "s", {})
    search.record(TrialRecord(1, {}, "trial-0001", "running"))
    (search.path / "trials" / "0001.json").write_text('{"number": 1}')
    with pytest.raises(SpaceError, match=r"0001\.json: damaged"):
        search.trials()
    (search.path / "search.json").write_text("{")
    with pytest.raises(SpaceError, match=r"search\.json"):
        search.info()


@pytest.mark.parametrize("run", ["/etc", "../../x", "trial-1", "best-seed1", "trial-0001/..", 3])
def test_a_record_that_was_altered_names_no_other_directory(tmp_path: Path, run: object) -> None:
    search = create_search(tmp_path, "s", {})
    search.record(TrialRecord(1, {}, run, "running"))  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match=r"0001\.json: damaged"):
        search.trials()


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    search = create_search(tmp_path, "s", {})
    with search.alone(), pytest.raises(SpaceError, match="another process"), search.alone():
        pass
    with search.alone():
        pass


def test_the_best_trial_is_first_and_the_cheaper_of_equals() -> None:
    trials = [
        TrialRecord(1, {}, "", "finished", score=0.8, tasks=40),
        TrialRecord(2, {}, "", "failed"),
        TrialRecord(3, {}, "", "stopped", score=0.9, tasks=40),
        TrialRecord(4, {}, "", "stopped", score=0.9, tasks=20),
    ]
    assert [t.number for t in ranked(trials, "max")] == [4, 3, 1]
    assert [t.number for t in ranked(trials, "min")] == [1, 4, 3]


def test_a_space_keeps_the_order_of_its_keys(tmp_path: Path) -> None:
    search: dict[str, Domain] = {
        "outer.lr": Choice(1e-2, 1e-3),
        "algorithm.name": Choice("maml", "meta_curvature"),
        "algorithm.variant": When("algorithm.name", ("meta_curvature",), Choice("mc1", "mc2")),
        "inner.lr": Choice(0.1, 0.2),
    }
    plan = make_plan("test", replace(SMALL_SPACE, search=search, searcher="grid"))
    there = create_search(tmp_path, "s", {"plan": plan.document()})
    there.update(status="interrupted")
    again = plan_of(there.info()["plan"])
    assert list(again.space.search) == list(search)
    assert again.points == plan.points
    assert len(again.points or []) == 2 * 3 * 2
