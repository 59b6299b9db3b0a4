"""What is asked of Tune and Optuna."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_spaces import SMALL_SPACE

from metadist.errors import SpaceError
from metadist.launch import tuning
from metadist.search.drive import drive
from metadist.search.place import create_search
from metadist.search.plan import make_plan
from metadist.search.request import (
    LASTING,
    Request,
    check,
    lasting_for,
    meant_search,
    plan_for,
)
from metadist.space import Asha, Choice, Domain, LogUniform, Point, Population, When


def _points(known: list[Point], count: int) -> list[Point]:
    searcher = tuning._searcher(SMALL_SPACE, 0, known)
    found = []
    for number in range(count):
        point = searcher.suggest(str(number))
        assert isinstance(point, dict)
        found.append(dict(point))
        searcher.on_trial_complete(str(number), {tuning.SCORE: float(number)})
    return found


def test_known_points_come_first_and_are_not_proposed_again() -> None:
    first = _points([], 4)
    again = _points(first, 8)
    assert again[:4] == first
    assert not [point for point in again[4:] if point in first]
    assert _points([], 4) == first


def test_conditions_hold_in_what_is_proposed() -> None:
    search: dict[str, Domain] = {
        "algorithm.name": Choice("maml", "meta_curvature"),
        "algorithm.variant": When("algorithm.name", ("meta_curvature",), Choice("mc1", "mc2")),
    }
    searcher = tuning._searcher(replace(SMALL_SPACE, search=search), 0, [])
    points = [searcher.suggest(str(i)) for i in range(12)]
    assert {len(point or {}) for point in points} == {1, 2}
    for point in points:
        assert point is not None
        curved = point["algorithm.name"] == "meta_curvature"
        assert ("algorithm.variant" in point) == curved


def _request(directory: Path, **changes: object) -> Request:
    plain: dict[str, object] = dict.fromkeys(Request.__dataclass_fields__)
    plain |= {"default_name": "x", "overrides": (), "changes": {}, "workers": 0, "cpus": 1.0}
    plain |= {"runs_dir": directory, "offline": True, "device": "cpu", "plugins": (), "live": False}
    return Request(**{**plain, **changes})  # type: ignore[arg-type]


def test_what_lasts_is_kept_and_differences_are_refused(tmp_path: Path) -> None:
    new = lasting_for(_request(tmp_path, seeds=1), None)
    assert new == {**LASTING, "seeds": 1}
    search = create_search(tmp_path, "s", {"lasting": new})
    assert lasting_for(_request(tmp_path), search) == new
    assert lasting_for(_request(tmp_path, seeds=1), search) == new
    with pytest.raises(SpaceError, match=r"seeds: 1 -> 2.*experiment: 'metadist' -> 'x'"):
        lasting_for(_request(tmp_path, seeds=2, experiment="x"), search)


@pytest.mark.parametrize("kind", ["grid", "population"])
def test_a_grid_and_a_population_are_given_no_more_trials(tmp_path: Path, kind: str) -> None:
    search = {"inner.lr": LogUniform(1e-3, 1e-1), "outer.lr": LogUniform(1e-4, 1e-2)}
    space = replace(SMALL_SPACE, search=search, searcher="grid" if kind == "grid" else "random")
    space = replace(space, scheduler=Population() if kind == "population" else Asha())
    plan = make_plan("test", space)
    there = create_search(tmp_path, "s", {"plan": plan.document()})
    with pytest.raises(SpaceError, match="a grid or a population none"):
        plan_for(_request(tmp_path, resume="s", changes={"trials": 99}), there)


def test_a_search_that_is_driven_is_left_as_it_is(tmp_path: Path) -> None:
    plan = make_plan("test", SMALL_SPACE)
    there = create_search(tmp_path, "s", {"plan": plan.document(), "lasting": LASTING})
    before = (there.path / "search.json").read_bytes()
    request = _request(tmp_path, resume="s", changes={"trials": 99})
    with there.alone(), pytest.raises(SpaceError, match="another process"):
        drive(request, lambda line: None)
    assert (there.path / "search.json").read_bytes() == before


def test_auto_means_the_search_of_that_name_or_a_new_one(tmp_path: Path) -> None:
    def asked(**changes: object) -> Request:
        plain = {"space": "sinusoid-lr", "name": "s", "resume": "auto", "seed": 3}
        return _request(tmp_path, **{**plain, **changes})

    assert meant_search(asked()) is None
    plan = plan_for(asked(), None)
    facts = {"plan": plan.document(), "lasting": LASTING}
    there = create_search(tmp_path, "s", facts)
    assert meant_search(asked()) == there
    assert plan_for(asked(), there) == plan
    for other in ({"seed": 4}, {"overrides": ("outer.batch=5",)}, {"changes": {"trials": 99}}):
        with pytest.raises(SpaceError, match=r"another request.*--resume s"):
            plan_for(asked(**other), there)
    for lacking in ({"name": None}, {"space": None}):
        with pytest.raises(SpaceError, match=r"SPACE and --name"):
            check(asked(**lacking))


def test_auto_on_a_finished_search_is_its_result(tmp_path: Path) -> None:
    request = _request(
        tmp_path, space="sinusoid-lr", name="s", resume="auto", data_dir=tmp_path / "data"
    )
    plan = plan_for(request, None)
    facts = {"plan": plan.document(), "lasting": LASTING, "status": "finished"}
    there = create_search(tmp_path, "s", {**facts, "result": {"trial": 7}})
    before = (there.path / "search.json").read_bytes()
    result = drive(request, lambda line: None)
    assert (result["search"], result["trial"]) == ("s", 7)
    assert (there.path / "search.json").read_bytes() == before
