"""The spaces that come with the package."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from metadist import algorithms
from metadist.compute.learners import build
from metadist.errors import SpaceError
from metadist.plugins import use
from metadist.search.plan import Plan, check_learners, make_plan
from metadist.search.spaces import load_space, space_name, space_names
from metadist.space import Choice, LogUniform
from metadist.tasks import TaskShape

#: They have neither an option nor a rate: there is nothing to search.
NOTHING = {"oracle"}


def _plan(name: str) -> Plan:
    return make_plan(name, load_space(name))


def _shape(plan: Plan) -> TaskShape:
    if plan.space.metric == "val/mse":
        return TaskShape((1,), 1)
    ways = plan.recipe({}).data.ways
    return TaskShape((1, 28, 28), ways, ways)


@pytest.mark.parametrize("name", space_names())
def test_every_space_makes_learners(name: str) -> None:
    plan = _plan(name)
    check_learners(plan, _shape(plan))
    assert plan.space.about
    assert plan.recipe({}).eval.val_episodes >= 100


def _learners(plan: Plan) -> set[str]:
    searched = plan.space.search.get("algorithm.name")
    if isinstance(searched, Choice):
        return {str(value) for value in searched.values}
    return {plan.recipe({}).algorithm.name}


def test_every_learner_with_something_to_search_has_a_space() -> None:
    covered = {learner for name in space_names() for learner in _learners(_plan(name))}
    assert covered == set(algorithms.names()) - NOTHING


def test_learners_with_nothing_to_search_have_nothing() -> None:
    for name in NOTHING:
        assert algorithms.options(name, {}).model_dump() == {}


def test_rates_of_maml_span_four_decades_and_the_default_is_not_the_centre() -> None:
    plan = _plan("maml-lr")
    default = plan.recipe({})
    for key, value in (("inner.lr", default.inner.lr), ("outer.lr", default.outer.lr)):
        domain = plan.space.search[key]
        assert isinstance(domain, LogUniform)
        assert math.log10(domain.high / domain.low) == pytest.approx(4)
        assert not math.isclose(value, math.sqrt(domain.low * domain.high), rel_tol=0.2)


def test_a_name_is_found_with_hyphens_or_underscores() -> None:
    assert load_space("maml_lr") is load_space("maml-lr")
    with pytest.raises(SpaceError, match="Did you mean 'maml-lr'"):
        load_space("maml-rl")


def test_every_end_of_every_domain_builds_the_declared_learner() -> None:
    plan = _plan("general")
    for learner in _learners(plan):
        recipe = plan.recipe({"algorithm.name": learner})
        assert recipe.algorithm.name == learner
        build(recipe, _shape(plan))


MINE = """
from metadist.space import LogUniform, Space

PART = "tune_space"
SPACE = Space(
    about="mine", base="sinusoid-10shot-maml", search={"inner.lr": LogUniform(0.001, 0.1)},
    metric="val/mse", mode="min", steps=10, every=5,
)
"""


def test_a_space_from_outside_is_found_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "my_space.py"
    path.write_text(MINE)
    with use([path]):
        assert load_space("my-space").about == "mine"
        assert "my-space" in space_names()
    with pytest.raises(SpaceError, match="unknown search space"):
        load_space("my-space")


def test_a_module_without_a_space_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd_space.py"
    path.write_text('PART = "tune_space"\nSPACE = 3\n')
    with use([path]), pytest.raises(SpaceError, match="is no metadist Space"):
        load_space("odd-space")


FILE = """
about = "mine"
base = "base.toml"
metric = "val/mse"
mode = "min"
steps = 10
every = 5
scheduler = { kind = "Asha" }

[search]
inner.lr = { kind = "LogUniform", low = 1e-3, high = 1 }
"algorithm.adapt_norm" = { kind = "Choice", values = [true, false] }

[fixed]
outer.batch = 4
"""


def test_a_space_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "my_rates.toml"
    path.write_text(FILE)
    (tmp_path / "base.toml").write_text("")
    space = load_space(str(path))
    assert space.search == {
        "inner.lr": LogUniform(1e-3, 1.0),
        "algorithm.adapt_norm": Choice(True, False),
    }
    assert space.fixed == {"outer.batch": 4}
    assert space.base == str(tmp_path / "base.toml")
    assert space_name(str(path)) == "my-rates"
    path.write_text(FILE.replace("high = 1 ", "hihg = 1 ").replace("steps = 10", "steps = 9.5"))
    with pytest.raises(SpaceError, match=r"inner\.lr: high: .*inner\.lr: hihg: .*steps: .*9\.5"):
        load_space(str(path))
    path.write_text("[search")
    with pytest.raises(SpaceError, match=r"my_rates\.toml: not valid TOML"):
        load_space(str(path))
    with pytest.raises(SpaceError, match=r"no_such\.toml: cannot be read"):
        load_space("no_such.toml")
