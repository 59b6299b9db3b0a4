"""What is asked of Tune and Optuna."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayTaskError
from search_requests import request
from small_spaces import SMALL_SPACE

from metadist.errors import ResourceError, SpaceError
from metadist.executors import ray_tune
from metadist.executors.optuna_search import tpe_searcher
from metadist.search.plan import make_plan
from metadist.search.request import (
    LASTING,
    SearchRequest,
    check,
    lasting_for,
    plan_for,
    search_to_resume,
)
from metadist.search.run_search import run_search
from metadist.search.search_dir import create_search
from metadist.space import Asha, Choice, Domain, LogUniform, Point, Population, When


def _points(known: list[Point], count: int) -> list[Point]:
    searcher = tpe_searcher(SMALL_SPACE, 0, known, ray_tune.SCORE)
    found = []
    for number in range(count):
        point = searcher.suggest(str(number))
        assert isinstance(point, dict)
        found.append(dict(point))
        searcher.on_trial_complete(str(number), {ray_tune.SCORE: float(number)})
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
    searcher = tpe_searcher(replace(SMALL_SPACE, search=search), 0, [], ray_tune.SCORE)
    points = [searcher.suggest(str(i)) for i in range(12)]
    assert {len(point or {}) for point in points} == {1, 2}
    for point in points:
        assert point is not None
        curved = point["algorithm.name"] == "meta_curvature"
        assert ("algorithm.variant" in point) == curved


def test_what_lasts_is_kept_and_differences_are_refused(tmp_path: Path) -> None:
    new = lasting_for(request(tmp_path, seeds=1), None)
    assert new == {**LASTING, "seeds": 1}
    search = create_search(tmp_path, "s", {"lasting": new})
    assert lasting_for(request(tmp_path), search) == new
    assert lasting_for(request(tmp_path, seeds=1), search) == new
    with pytest.raises(SpaceError, match=r"seeds: 1 -> 2.*experiment: 'metadist' -> 'x'"):
        lasting_for(request(tmp_path, seeds=2, experiment="x"), search)


@pytest.mark.parametrize("kind", ["grid", "population"])
def test_a_grid_and_a_population_are_given_no_more_trials(tmp_path: Path, kind: str) -> None:
    search = {"inner.lr": LogUniform(1e-3, 1e-1), "outer.lr": LogUniform(1e-4, 1e-2)}
    space = replace(SMALL_SPACE, search=search, searcher="grid" if kind == "grid" else "random")
    space = replace(space, scheduler=Population() if kind == "population" else Asha())
    plan = make_plan("test", space)
    there = create_search(tmp_path, "s", {"plan": plan.document()})
    with pytest.raises(SpaceError, match="a grid or a population none"):
        plan_for(request(tmp_path, resume="s", changes={"trials": 99}), there)


def test_a_search_that_is_driven_is_left_as_it_is(tmp_path: Path) -> None:
    plan = make_plan("test", SMALL_SPACE)
    there = create_search(tmp_path, "s", {"plan": plan.document(), "lasting": LASTING})
    before = (there.path / "search.json").read_bytes()
    asked = request(tmp_path, resume="s", changes={"trials": 99})
    with there.alone(), pytest.raises(SpaceError, match="another process"):
        run_search(asked, lambda line: None)
    assert (there.path / "search.json").read_bytes() == before


def test_auto_means_the_search_of_that_name_or_a_new_one(tmp_path: Path) -> None:
    def asked(**changes: object) -> SearchRequest:
        plain = {"space": "sinusoid-lr", "name": "s", "resume": "auto", "seed": 3}
        return request(tmp_path, **{**plain, **changes})

    assert search_to_resume(asked()) is None
    plan = plan_for(asked(), None)
    facts = {"plan": plan.document(), "lasting": LASTING}
    there = create_search(tmp_path, "s", facts)
    assert search_to_resume(asked()) == there
    assert plan_for(asked(), there) == plan
    for other in ({"seed": 4}, {"overrides": ("outer.batch=5",)}, {"changes": {"trials": 99}}):
        with pytest.raises(SpaceError, match=r"another request.*--resume s"):
            plan_for(asked(**other), there)
    for lacking in ({"name": None}, {"space": None}):
        with pytest.raises(SpaceError, match=r"SPACE and --name"):
            check(asked(**lacking))


def test_auto_on_a_finished_search_is_its_result(tmp_path: Path) -> None:
    again = request(
        tmp_path, space="sinusoid-lr", name="s", resume="auto", data_dir=tmp_path / "data"
    )
    plan = plan_for(again, None)
    facts = {"plan": plan.document(), "lasting": LASTING, "status": "finished"}
    there = create_search(tmp_path, "s", {**facts, "result": {"trial": 7}})
    before = (there.path / "search.json").read_bytes()
    result = run_search(again, lambda line: None)
    assert (result["search"], result["trial"]) == ("s", 7)
    assert (there.path / "search.json").read_bytes() == before


class Listening:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.dead: list[int] = []

    def began(self, number: int, point: Point) -> None: ...

    def scored(self, number: int, step: int, score: float) -> None: ...

    def ended(self, number: int) -> None: ...

    def died(self, number: int) -> None:
        self.dead.append(number)


def test_what_a_trial_raises_ends_the_search_and_a_dead_process_does_not(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Trial:
        """As much of Tune's as a callback looks at."""

        name: str
        error: Exception

        def __str__(self) -> str:
            return self.name

        @property
        def pickled_error_file(self) -> str:
            path = tmp_path / self.name
            path.write_bytes(cloudpickle.dumps(self.error))
            return str(path)

    listener = Listening()
    news = ray_tune._TrialEvents(listener)
    fault = ResourceError("trial-0002: no space left on device")
    dead, full = ActorDiedError(), RayTaskError("f", "trace", fault)
    for trial in (Trial("trial-0001", dead), Trial("trial-0002", full)):
        assert not news.stop_all()
        news.on_trial_error(0, [], trial)  # type: ignore[arg-type]
    assert listener.dead == [1]
    assert news.stop_all()
    assert not news("2", {})
    assert isinstance(news.raised, ResourceError)
    assert str(news.raised) == str(fault)


@pytest.mark.parametrize("typed", ["maml-lr", "maml_lr"])
def test_a_search_goes_on_by_the_words_it_was_begun_with(tmp_path: Path, typed: str) -> None:
    plan = plan_for(request(tmp_path, space=typed), None)
    assert plan.name == "maml-lr"
    there = create_search(tmp_path, "s", {"plan": plan.document()})
    assert plan_for(request(tmp_path, space=typed, resume="s"), there) == plan
    # So was one that was begun when names were kept as they were typed.
    there.update(plan={**plan.document(), "space": typed})
    assert plan_for(request(tmp_path, space=typed, resume="s"), there).space == plan.space


def test_an_unknown_space_names_those_there_are_as_they_are_listed(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"'maml_lt'\. Did you mean 'maml-lr'\?.*maml-lr, "):
        plan_for(request(tmp_path, space="maml_lt"), None)
