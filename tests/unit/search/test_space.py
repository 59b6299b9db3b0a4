"""Search spaces as data: domains, conditions, grids, and what is wrong with them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from metadist.errors import SpaceError
from metadist.search.plan import Plan, make_plan, plan_of
from metadist.space import (
    Asha,
    Choice,
    Domain,
    Integers,
    LogUniform,
    MedianStopping,
    Population,
    Space,
    Uniform,
    When,
    check_space,
)

RATES: dict[str, Domain] = {"inner.lr": LogUniform(1e-3, 1e1), "outer.lr": LogUniform(1e-5, 1e-1)}
SPACE = Space(
    about="both rates",
    base="sinusoid-10shot-maml",
    search=RATES,
    metric="val/mse",
    mode="min",
    steps=40,
    every=10,
)
CONDITIONAL: dict[str, Domain] = {
    "algorithm.name": Choice("maml", "meta_curvature"),
    "algorithm.variant": When("algorithm.name", ("meta_curvature",), Choice("mc1", "mc2")),
    "inner.steps": Integers(1, 2),
}


def test_grid_has_every_combination_that_counts() -> None:
    points = replace(SPACE, search=CONDITIONAL).grid()
    assert len(points) == len({json.dumps(p, sort_keys=True) for p in points}) == 2 * (1 + 2)
    for point in points:
        assert ("algorithm.variant" in point) == (point["algorithm.name"] == "meta_curvature")


def test_grid_of_a_logarithmic_domain_is_even_in_the_logarithm() -> None:
    values = LogUniform(1e-4, 1.0, grid=5).points()
    assert values == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    for low, high in ((1e-3, 10.0), (0.3, 3.0)):
        ends = LogUniform(low, high).points()
        assert (ends[0], ends[-1]) == (low, high)  # and not a little beyond
    assert Integers(1, 50, log=True).points() == [1, 2, 4, 8, 16, 32]


def test_values_without_their_condition_are_dropped() -> None:
    space = replace(SPACE, search=CONDITIONAL)
    point = {"algorithm.name": "maml", "algorithm.variant": "mc1", "inner.steps": 2}
    assert space.active(point) == {"algorithm.name": "maml", "inner.steps": 2}


def test_a_condition_on_a_key_that_does_not_count_is_not_met() -> None:
    search: dict[str, Domain] = {
        "a": Choice("x", "y"),
        "b": When("a", ("x",), Choice("p", "q")),
        "c": When("b", ("p",), Choice(1, 2)),
    }
    space = replace(SPACE, search=search)
    assert space.active({"a": "y", "b": "p", "c": 2}) == {"a": "y"}
    assert space.active({"a": "x", "b": "p", "c": 2}) == {"a": "x", "b": "p", "c": 2}
    assert len(space.grid()) == 1 + 1 + 2


def _plan(**changes: object) -> Plan:
    return make_plan("test", SPACE, **changes)  # type: ignore[arg-type]


def test_random_points_depend_on_seed_and_number_only() -> None:
    few = _plan(searcher="random", trials=4).points
    many = _plan(searcher="random", trials=9).points
    assert few is not None
    assert many is not None
    assert many[:4] == few
    assert len({p["inner.lr"] for p in many}) == 9
    assert _plan(searcher="random", trials=4, seed=1).points != few


def test_random_points_fill_their_domains() -> None:
    search = {**RATES, "inner.steps": Integers(1, 4), "outer.clip": Uniform(0.0, 2.0)}
    space = replace(SPACE, search=search, searcher="random", trials=400)
    points = Plan("test", space, "").points
    assert points is not None
    logs = sorted(math.log10(float(p["inner.lr"])) for p in points)
    assert -3 <= logs[0] < -2.9
    assert 0.9 < logs[-1] <= 1
    assert sum(value < -1 for value in logs) == pytest.approx(200, abs=40)  # four deviations
    assert {p["inner.steps"] for p in points} == {1, 2, 3, 4}
    clips = [float(p["outer.clip"]) for p in points]
    assert sum(c < 0.5 for c in clips) == pytest.approx(100, abs=35)


@pytest.mark.parametrize(
    "scheduler", [None, Asha(2), MedianStopping(1, 2), Population(2, factors=(2.0, 0.5))]
)
def test_a_plan_survives_being_written_down(scheduler: object) -> None:
    space = replace(SPACE, search=CONDITIONAL, scheduler=scheduler, fixed={"outer.batch": 4})  # type: ignore[arg-type]
    if isinstance(scheduler, Population):
        rates: dict[str, Domain] = {
            "inner.lr": LogUniform(0.01, 1.0),
            "outer.lr": Uniform(0.1, 0.2),
        }
        space = replace(space, search=rates, searcher="random")
    plan = Plan("test", space, "[data]", ("eval.episodes=4",), 3)
    assert plan_of(json.loads(json.dumps(plan.document()))) == plan


#: A space as it was written down when domains had no `kind` of their own.
EARLIER = """{"about": "a", "base": "sinusoid-10shot-maml", "search": {
"inner.lr": {"kind": "LogUniform", "low": 1, "high": 10.0, "grid": 5},
"outer.clip": {"kind": "Uniform", "low": 0.5, "high": 5.0, "grid": 3},
"inner.steps": {"kind": "Integers", "low": 1, "high": 50, "log": true},
"a.d": {"kind": "Choice", "values": ["x", true, 1, 1.0]},
"a.e": {"kind": "When", "key": "a.d", "values": ["x", true],
        "then": {"kind": "LogUniform", "low": 0.1, "high": 1.0, "grid": 5}}},
"fixed": {"outer.batch": 4, "eval.steps": 0}, "metric": "val/mse", "mode": "min", "steps": 40,
"every": 10, "trials": 16, "searcher": "tpe",
"scheduler": {"kind": "Asha", "grace": 2, "reduction": 3}}"""


def test_a_record_of_earlier_is_the_same_space() -> None:
    declared = json.loads(EARLIER)
    space = check_space(declared, "test")
    values = ("x", True, 1, 1.0)
    assert space == Space(
        about="a",
        base="sinusoid-10shot-maml",
        search={
            "inner.lr": LogUniform(1, 10.0),
            "outer.clip": Uniform(0.5, 5.0, 3),
            "inner.steps": Integers(1, 50, log=True),
            "a.d": Choice(*values),
            "a.e": When("a.d", ("x", True), LogUniform(0.1, 1.0)),
        },
        fixed={"outer.batch": 4, "eval.steps": 0},
        metric="val/mse",
        mode="min",
        steps=40,
        every=10,
        scheduler=Asha(2),
    )
    assert [type(v) for v in space.search["a.d"].points()] == [type(v) for v in values]
    assert list(space.search) == list(declared["search"])
    assert space.document() == declared


def test_every_mistake_is_named_at_once() -> None:
    wrong: dict[str, object] = {
        "inner.lr": LogUniform("x", True, 1),  # type: ignore[arg-type]
        "outer.lr": LogUniform(3.0, 1.0),
        "a.a": 7,
        "a.b": Asha(),
        "a.c": When("a.b", (), Choice([1], 2)),  # type: ignore[arg-type]
    }
    changes = {"search": wrong, "mode": "up", "trials": "4", "fixed": {"q": [1]}, "scheduler": 7}
    with pytest.raises(SpaceError) as caught:
        check_space(replace(SPACE, **changes), "mine")  # type: ignore[arg-type]
    for said in (
        "space mine: inner.lr: low: Input should be a valid number, got 'x'",
        "inner.lr: high: Input should be a valid number, got True",
        "inner.lr: grid: Input should be greater than or equal to 2, got 1",
        "outer.lr: 0 < low < high is needed, got low 3.0 and high 1.0",
        "a.a: a part of metadist.space is needed, as LogUniform(1e-3, 1.0) or Asha(), got 7",
        "a.b: Input tag 'Asha' found",
        "a.c: values: Tuple should have at least 1 item",
        "a.c: then: values: 0: a number, text or truth value is needed, got [1]",
        "mode: Input should be 'max' or 'min', got 'up'",
        "trials: Input should be a valid integer, got '4'",
        "fixed: q: a number, text or truth value is needed, got [1]",
        "scheduler: a part of metadist.space is needed",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize("damage", [{"declared": {}}, {"declared": 3}, {"seed": None}])
def test_a_damaged_plan_says_so(damage: dict[str, object]) -> None:
    document = Plan("test", SPACE, "[data]").document()
    with pytest.raises(SpaceError, match="damaged"):
        plan_of({**document, **damage})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"search": {}}, "nothing is searched"),
        ({"search": {"inner.lr": LogUniform(0.0, 1.0)}}, "inner.lr: 0 < low < high"),
        ({"search": {"inner.lr": LogUniform(1.0, 1.0)}}, "inner.lr: 0 < low < high"),
        ({"search": {"inner.lr": Uniform(2.0, 1.0)}}, "low < high is needed"),
        ({"search": {"inner.steps": Integers(0, 4, log=True)}}, "1 <= low < high"),
        ({"search": {"inner.lr": Choice(0.1)}}, "two or more different values"),
        ({"search": {"inner.lr": Choice(0.1, 0.1)}}, "two or more different values"),
        ({"search": {"inner.lr": When("outer.lr", (1.0,), Choice(1.0, 2.0))}}, "before it"),
        ({"fixed": {"inner.lr": 0.1}}, "both searched and fixed"),
        ({"steps": 45}, "a multiple of every"),
        ({"every": 0}, "every: .* greater than or equal to 1, got 0"),
        ({"trials": 0}, "trials: .* greater than or equal to 1, got 0"),
        ({"scheduler": Asha(0)}, "grace counts validations.*1 to 4 are possible, got 0"),
        ({"scheduler": MedianStopping(5)}, "1 to 4 are possible, got 5"),
        ({"scheduler": Asha(1, 1)}, "scheduler: reduction: .* greater than or equal to 2, got 1"),
        ({"scheduler": Population(5), "searcher": "random"}, "interval counts validations"),
        ({"scheduler": Population(2)}, "starts from random points"),
        ({"scheduler": Population(1, factors=(-1.0, 2.0)), "searcher": "random"}, "than 0, got -1"),
        (
            {"scheduler": Population(1, resample=2.0), "searcher": "random"},
            "or equal to 1, got 2",
        ),
    ],
)
def test_what_is_wrong_with_a_space_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        check_space(replace(SPACE, **change), "test")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"search": {"inner.lrr": LogUniform(0.1, 1.0)}}, "inner.lrr.*Did you mean 'lr'"),
        ({"search": {"iner.lr": LogUniform(0.1, 1.0)}}, r"iner.*Did you mean 'inner'"),
        ({"search": {"algorithm.varient": Choice("a", "b")}}, "unknown key"),
        ({"search": {"inner.steps": Integers(-1, 3)}}, "inner.steps = -1"),
        ({"search": {"algorithm.name": Choice("maml", "mmal")}}, "Did you mean 'maml'"),
        ({"search": {"outer.steps": Integers(1, 9)}}, "use --steps"),
        ({"search": {"eval.every": Integers(1, 9)}}, "use --every"),
        ({"fixed": {"outer.bacth": 4}}, "Did you mean 'batch'"),
    ],
)
def test_a_space_that_does_not_fit_recipes_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        make_plan("test", replace(SPACE, **change))  # type: ignore[arg-type]


def test_what_is_searched_cannot_be_set() -> None:
    with pytest.raises(SpaceError, match="searches that itself"):
        _plan(overrides=("inner.lr=0.1",))


def test_a_recipe_of_a_point_has_its_values_and_the_budget() -> None:
    plan = _plan(overrides=("data.shots=5",))
    recipe = plan.recipe({"inner.lr": 0.1 + 0.2, "outer.lr": 1e-5}, seed=7)
    assert (recipe.inner.lr, recipe.outer.lr) == (0.1 + 0.2, 1e-5)
    assert (recipe.outer.steps, recipe.eval.every, recipe.data.shots) == (40, 10, 5)
    assert recipe.run.seed == 7
    assert plan.recipe({}).run.seed == 0
