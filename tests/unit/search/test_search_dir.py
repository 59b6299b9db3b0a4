"""The directory of a search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from search_requests import request
from small_spaces import SMALL_SPACE

from metadist.errors import RunError, SpaceError
from metadist.search.plan import make_plan, plan_of
from metadist.search.report import report_again
from metadist.search.request import LASTING, lasting_for, plan_for
from metadist.search.search_dir import TrialRecord, create_search, open_search, ranked
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


def _change(document: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        document = document[name]
    document[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("plan", None),
        ("plan", [1]),
        ("plan.space", 1),
        ("plan.overrides", [1]),
        ("plan.seed", "1"),
        ("plan.declared.searcher", "zzz"),
        ("plan.declared.trials", "many"),
        ("plan.declared.trials", True),
        ("plan.declared.trials", -1),
        ("plan.declared.steps", 2.5),
        ("plan.declared.mode", "most"),
        ("plan.declared.metric", "test/accuracy"),
        ("plan.declared.about", None),
        ("plan.declared.fixed", {"outer.batch": [1]}),
        ("plan.declared.search", {}),
        ("plan.declared.search", {"outer.lr": {"kind": "Asha"}}),
        ("plan.declared.search", {"outer.lr": {"kind": "Choice", "values": [[1], [2]]}}),
        ("plan.declared.search", {"outer.lr": {"kind": "Uniform", "low": "a", "high": "b"}}),
        ("plan.declared.search", {"outer.lr": {"kind": "Space", "low": 1}}),
        ("plan.declared.search", {"outer.lr": {"kind": "SpaceError"}}),
        ("plan.declared.scheduler", {"kind": "LogUniform", "low": 0.1, "high": 1.0}),
        ("plan.declared.scheduler", {"kind": "Asha", "grace": "x"}),
        ("plan.declared.scheduler", {"kind": "Population", "factors": []}),
        ("lasting", [1]),
        ("lasting", "x"),
        ("lasting", {"seeds": -3}),
        ("lasting", {"seeds": True}),
        ("lasting", {"episodes": "many"}),
        ("lasting", {"more": 1}),
        ("created", None),
    ],
)
def test_a_search_that_was_altered_is_refused_with_a_reason(
    tmp_path: Path, path: str, value: object
) -> None:
    plan = make_plan("test", SMALL_SPACE)
    search = create_search(tmp_path, "s", {"plan": plan.document(), "lasting": LASTING})
    asked = request(tmp_path, resume="s")

    def read() -> None:
        plan_for(asked, search)
        lasting_for(asked, search)

    read()
    document = search.info()
    _change(document, path, value)
    (search.path / "search.json").write_text(json.dumps(document))
    with pytest.raises(SpaceError, match=r"damaged|or more is needed"):
        read()
    if path != "lasting":
        with pytest.raises(SpaceError):
            report_again(tmp_path, "s")


def test_a_space_of_a_users_own_is_checked_for_types() -> None:
    with pytest.raises(SpaceError, match="trials: Input should be a valid integer, got 'many'"):
        make_plan("mine", replace(SMALL_SPACE, trials="many"))  # type: ignore[arg-type]
