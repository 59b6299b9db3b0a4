"""Searches over objectives: their options, and what their trials are compared by."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_parts import FUNCTIONS, plugins

from metadist.compute.setup import Setup
from metadist.errors import SpaceError
from metadist.plugins import use
from metadist.search.plan import Plan, check_learners, make_plan
from metadist.space import Choice, LogUniform, Space


def plan(folder: Path, *objectives: str, **fixed: str) -> Plan:
    (folder / "base.toml").write_text(FUNCTIONS, encoding="utf-8")
    space = Space(
        about="likelihoods",
        base=str(folder / "base.toml"),
        search={"objective.name": Choice(*objectives), "outer.lr": LogUniform(1e-3, 1e-1)},
        fixed=fixed,
        metric="val/nll",
        mode="min",
        steps=4,
        every=2,
        trials=2,
        searcher="random",
    )
    return make_plan("likelihoods", space)


def test_trials_of_several_objectives_are_compared_by_one_metric(tmp_path: Path) -> None:
    with use(plugins("set_regression", "laplace", "student_t")):
        good = plan(tmp_path, "density", "laplace")
        shape = Setup.open(good.recipe({}), tmp_path).data.shape
        check_learners(good, shape)
        said = r"objective\.name = 'student_t': measured by val/surprise, others by val/nll"
        with pytest.raises(SpaceError, match=said):
            check_learners(plan(tmp_path, "density", "student_t"), shape)


def test_an_option_that_an_objective_does_not_take_is_dropped_and_said(tmp_path: Path) -> None:
    with use(plugins("set_regression", "laplace", "student_t")):
        base = FUNCTIONS.replace('name = "density"', 'name = "student_t"\ndegrees = 3.0')
        asked = plan(tmp_path, "student_t", "laplace")
        (tmp_path / "base.toml").write_text(base, encoding="utf-8")
        asked = make_plan("likelihoods", asked.space)
        (line,) = asked.dropped()
        assert line.startswith("objective.degrees: not of 'laplace', dropped")
        assert asked.recipe({"objective.name": "laplace"}).objective.options == {}
