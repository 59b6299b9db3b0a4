"""The choice after a search: fresh episodes, new seeds, test classes once."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compared_runs import compared_run, scores, write_scores
from small_spaces import SMALL_SPACE

from metadist.errors import SpaceError
from metadist.objectives import ACCURACY, MSE
from metadist.recipe.schema import load_recipe
from metadist.runs.classes import classes_file
from metadist.runs.readers.evaluations import read_evaluation
from metadist.search import confirm
from metadist.search.confirm import Confirmation
from metadist.search.plan import Plan, make_plan
from metadist.search.report.result_schema import read_found
from metadist.search.run_search import _best, summary
from metadist.search.search_dir import SearchDir, TrialRecord, create_search
from metadist.search.spaces import load_space
from metadist.search.summary import text
from metadist.search.trial import TrialContext, run_trial
from metadist.space import LogUniform, Point
from metadist.statistics.paired import Paired, Rows, paired, t975

HOW = Confirmation(episodes=5, seeds=2)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, TrialContext]:
    """Three trials of a search, one of which has failed."""
    directory = tmp_path_factory.mktemp("searched")
    plan = make_plan("test", SMALL_SPACE)
    search = create_search(directory / "runs", "s", {"plan": plan.document()})
    context = TrialContext(search.path, directory / "data", offline=True)
    for number, (inner, outer) in enumerate([(0.01, 1e-3), (0.02, 1e-2), (1e9, 1e-1)], 1):
        point: Point = {"inner.lr": inner, "outer.lr": outer}
        run_trial(plan, context, number, point, lambda step, score: True)
    return plan, context


def _scores(search: SearchDir, run: str, name: str) -> list[float]:
    found = read_evaluation(search.run(run), name, [])
    assert found is not None
    assert found.scores is not None
    return [float(score) for score in found.scores[:, found.figure_step]]


def test_the_winner_is_chosen_on_episodes_no_trial_has_seen(
    searched: tuple[Plan, TrialContext],
) -> None:
    plan, context = searched
    search, trials = context.search, context.search.trials()
    jobs = confirm.candidates(plan, trials)
    assert [job.name for job in jobs] == [f"trial-000{n}" for n in _by_score(trials)]
    for job in jobs:
        confirm.confirm_run(context, job, HOW.episodes)
    name = "val-5episodes-seed1-10q"
    rows = {n: _scores(search, f"trial-000{n}", name) for n in (1, 2)}
    chosen = confirm.choose(plan, search, trials, HOW.episodes)
    means = {n: sum(scores) / len(scores) for n, scores in rows.items()}
    assert chosen.winner.number == min(means, key=lambda n: means[n])
    other = next(n for n in (1, 2) if n != chosen.winner.number)
    apart = np.array(rows[other]) - np.array(rows[chosen.winner.number])
    told = chosen.top[1]["difference"]
    assert told["mean"] == pytest.approx(apart.mean())
    assert told["ci95"] == pytest.approx(t975(4) * apart.std(ddof=1) / math.sqrt(5))
    assert chosen.within_noise == (told["mean"] <= told["ci95"])
    # Nothing has looked at test classes so far.
    assert not list(search.runs.glob("*/evaluation/test-*"))


def _by_score(trials: list[TrialRecord]) -> list[int]:
    scored = [t for t in trials if t.score is not None]
    return [t.number for t in sorted(scored, key=lambda t: t.score or 0.0)]


@pytest.mark.slow
def test_winner_and_default_are_trained_with_new_seeds_and_tested(
    searched: tuple[Plan, TrialContext],
) -> None:
    plan, context = searched
    search, trials = context.search, context.search.trials()
    for job in confirm.candidates(plan, trials):
        confirm.confirm_run(context, job, HOW.episodes)
    chosen = confirm.choose(plan, search, trials, HOW.episodes)
    jobs = confirm.final_runs(plan, chosen.winner, HOW)
    best = [f"best-{chosen.winner.run}-seed{seed}" for seed in (1, 2)]
    assert [j.name for j in jobs] == [best[0], "default-seed1", best[1], "default-seed2"]
    for job in jobs:
        confirm.confirm_run(context, job, HOW.episodes)
    before = {p: p.stat().st_mtime_ns for p in search.runs.glob("*/evaluation/*")}
    for job in jobs:
        confirm.confirm_run(context, job, HOW.episodes)  # what is done is not done again
    assert {p: p.stat().st_mtime_ns for p in search.runs.glob("*/evaluation/*")} == before
    result = confirm.results(plan, search, chosen, HOW)
    json.dumps(result, allow_nan=False)
    assert result["tested"] == [chosen.winner.run]
    assert result["of_classes"] == {}  # functions have none
    assert result["labels"] is False
    # Other episodes than those that have chosen the winner.
    name = "val-5episodes-seed2-10q"
    mine, theirs = (
        np.mean([_scores(search, f"{what}-seed{seed}", name) for seed in (1, 2)], axis=0)
        for what in (f"best-{chosen.winner.run}", "default")
    )
    assert result["against_default"]["mean"] == pytest.approx((mine - theirs).mean())
    assert result["best_validation"]["mean"] == pytest.approx(mine.mean())
    tests = [run["test"]["mean"] for run in result["best"]]
    assert tests == [search.run(r["run"]).info()["result"]["mse"] for r in result["best"]]
    spread = t975(1) * abs(tests[0] - tests[1]) / math.sqrt(2) / math.sqrt(2)
    assert result["best_test"]["ci95"] == pytest.approx(spread)
    search.best.write_text(plan.recipe(chosen.winner.point).to_toml())
    lines = text(summary(search, plan, result))
    assert any("1 failed" in line for line in lines)
    assert load_recipe(str(search.best)) == plan.recipe(chosen.winner.point)


@pytest.mark.parametrize("name", ["maml-lr", "sinusoid-lr", "general"])
def test_what_was_found_is_tested_as_its_base_is(name: str, tmp_path: Path) -> None:
    plan = make_plan(name, load_space(name))
    base = load_recipe(plan.space.base).eval
    found = plan.recipe({"inner.lr": 0.3, "inner.steps": 1})
    assert (found.eval.extra_queries, found.eval.steps) == (0, 0)  # what no trial needs
    search = create_search(tmp_path / "runs", "s", {"plan": plan.document()})
    result = {"trial": 1, "point": {"inner.lr": 0.3}}
    search.best.write_text(_best(plan, search, found, result))
    best = load_recipe(str(search.best))
    assert best.eval == base.model_copy(update={"every": plan.space.every})
    assert best.model_copy(update={"eval": found.eval}) == found
    # More steps in training than the base has at test, and what was asked for.
    assert plan.tested(plan.recipe({"inner.steps": 20})).eval.steps == 0
    asked = make_plan(name, load_space(name), overrides=("eval.extra_queries=7",))
    assert asked.tested(asked.recipe({})).eval.extra_queries == 7


def test_the_classes_of_validation_and_test_are_told(tmp_path: Path) -> None:
    search = create_search(tmp_path, "s", {})
    run = compared_run(search.runs, "trial-0001", classes=30)
    write_scores(run, scores(0.5)[:5], name="val-5episodes-seed1-1q", classes=16)
    val, test = {"ways": 5, "classes": 16}, {"ways": 5, "classes": 30}
    told = confirm._of_classes(search, run.name, [run.name], 5)
    assert told == {"val": val, "test": test}
    assert confirm._of_classes(search, run.name, [], 5) == {"val": val}  # not trained anew
    classes_file(run.evaluation, "test-1q").unlink()
    assert confirm._of_classes(search, run.name, [run.name], 5) == {"val": val}


def test_a_search_of_failures_says_why(searched: tuple[Plan, TrialContext]) -> None:
    plan, context = searched
    failed = [t for t in context.search.trials() if t.status == "failed"]
    assert failed
    with pytest.raises(SpaceError, match=r"none of 1 trials has a score: .*not finite"):
        confirm.candidates(plan, failed)


def test_seeds_are_none_that_trials_had() -> None:
    plan = make_plan("test", SMALL_SPACE, overrides=("run.seed=7",))
    assert confirm.seeds(plan, HOW) == [8, 9]


def test_a_setting_of_which_a_run_has_no_figure_has_none() -> None:
    figures: list[dict[str, float | None]] = [
        {"mean": 1.0, "ci95": 0.1},
        {"mean": None, "ci95": None},
    ]
    assert confirm._over_seeds(figures)["mean"] is None
    rows = Rows("d", MSE, np.array([math.nan, math.nan]))
    assert math.isnan(confirm._mean(rows)[0])
    assert confirm.difference(paired(rows, rows))["mean"] is None


def test_a_recipe_of_a_trial_is_that_of_its_point() -> None:
    space = replace(SMALL_SPACE, search={"inner.lr": LogUniform(0.001, 0.1)})
    plan = make_plan("test", space)
    assert plan.recipe({"inner.lr": 0.05}).inner.lr == 0.05


def test_a_learner_that_diverges_on_some_episodes_is_not_chosen(
    searched: tuple[Plan, TrialContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, context = searched
    scores = {
        "trial-0001": np.array([1.0, 1.0, 1.0, 9.0, 9.0]),
        "trial-0002": np.array([1.1, 1.1, 1.1, math.nan, math.nan]),
    }
    monkeypatch.setattr(
        confirm, "fresh_rows", lambda search, run, *more: Rows("d", MSE, scores[run])
    )
    chosen = confirm.choose(plan, context.search, context.search.trials(), 5)
    assert chosen.winner.number == 1
    assert [entry["failed"] for entry in chosen.top] == [0, 2]


@pytest.mark.parametrize(
    ("means", "over", "word"),
    [
        ([0.02], "episodes", "better"),
        ([0.0, 0.01, 0.05], "seeds", "within noise"),
        ([0.019, 0.02, 0.021], "seeds", "better"),
        ([-0.019, -0.02, -0.021], "seeds", "worse"),
        ([0.02, 0.02], "episodes", "better"),  # they agree by chance
        ([0.02, math.nan], "seeds", None),
    ],
)
def test_the_verdict_knows_of_seeds(means: list[float], over: str, word: str | None) -> None:
    by_seed = [Paired(mean, 0.002, 1000, 0) for mean in means]
    apart = Paired(float(np.nanmean(means)), 0.001, 1000, 0)
    wider, what = confirm._wider(apart, by_seed)
    assert (what, wider.word(ACCURACY)) == (over, word)
    if over == "episodes":
        assert wider.ci95 == 0.001
    elif word:
        spread = np.std(means, ddof=1) / math.sqrt(len(means))
        assert wider.ci95 == pytest.approx(t975(len(means) - 1) * spread)


def test_equal_settings_are_seldom_told_apart() -> None:
    """Seeds that move the score by 1 % beside episodes that move it by 0.3 %."""
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(400):
        by_seed = [Paired(float(d), 0.005, 1000, 0) for d in rng.normal(0.0, 0.014, 3)]
        apart = Paired(float(np.mean([one.mean for one in by_seed])), 0.003, 1000, 0)
        told += confirm._wider(apart, by_seed)[0].word(ACCURACY) != "within noise"
    assert told / 400 < 0.07


@pytest.mark.slow
def test_what_is_said_names_what_the_interval_is_over(searched: tuple[Plan, TrialContext]) -> None:
    plan, context = searched
    search, trials = context.search, context.search.trials()
    first = confirm.candidates(plan, trials)
    for job in first:
        confirm.confirm_run(context, job, HOW.episodes)
    chosen = confirm.choose(plan, search, trials, HOW.episodes)
    for job in confirm.final_runs(plan, chosen.winner, HOW):
        confirm.confirm_run(context, job, HOW.episodes)
    result = confirm.results(plan, search, chosen, HOW)
    apart = result["against_default"]
    each = [one["mean"] for one in apart["by_seed"]]
    half = t975(1) * np.std(each, ddof=1) / math.sqrt(2)
    assert apart["over"] == "seeds"
    assert apart["ci95"] == pytest.approx(half)
    lines = text(summary(search, plan, result))
    assert any("(interval over seeds): " in line for line in lines)
    apart = read_found(result).against_default
    assert apart is not None
    assert apart.over == "seeds"


@pytest.mark.slow
def test_a_run_of_another_setting_does_not_confirm_this_one(tmp_path: Path) -> None:
    plan = make_plan("test", SMALL_SPACE)
    search = create_search(tmp_path, "s", {"plan": plan.document()})
    context = TrialContext(search.path, tmp_path / "data", offline=True)
    for rate in (0.01, 0.02):
        recipe = plan.recipe({"inner.lr": rate, "outer.lr": 1e-3}, seed=1)
        confirm.confirm_run(context, confirm.ConfirmationRun("best-trial-0003-seed1", recipe), 3)
        run = search.run("best-trial-0003-seed1")
        assert run.recipe() == recipe
        assert run.info()["status"] == "finished"
