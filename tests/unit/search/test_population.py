"""Population-based training: who takes over what, and that a schedule is trained again exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import fresh_run
from small_spaces import SMALL_SPACE

from metadist.errors import RunError, SpaceError
from metadist.executors import in_process
from metadist.executors.job import Job
from metadist.process.announce import quiet
from metadist.recipe.rate_changes import read_changes
from metadist.runs.branch import branch
from metadist.runs.listing import list_runs
from metadist.runs.log import series
from metadist.search.plan import Plan, make_plan
from metadist.search.population import boundaries, evolve, run_population
from metadist.search.repair import repair_records
from metadist.search.search_dir import create_search
from metadist.search.trial import TrialContext
from metadist.space import Asha, Choice, LogUniform, Point, Population, Space

SPACE = replace(
    SMALL_SPACE,
    search={"inner.lr": LogUniform(1e-3, 1e-1), "outer.lr": LogUniform(1e-4, 1e-2)},
    searcher="random",
    trials=4,
    scheduler=Population(interval=1),
)


def _plan(space: Space = SPACE, seed: int = 0) -> Plan:
    return make_plan("test", space, seed=seed)


def test_rounds_end_at_multiples_and_at_the_last_step() -> None:
    assert boundaries(_plan()) == [2, 4, 6]
    assert boundaries(_plan(replace(SPACE, scheduler=Population(interval=2)))) == [4, 6]


def test_the_worst_take_over_the_best_with_other_rates() -> None:
    plan = _plan(replace(SPACE, trials=8, scheduler=Population(interval=1, resample=0.0)))
    points = plan.points
    assert points is not None
    scores = dict(enumerate([0.5, 0.1, 0.9, 0.4, 0.2, None, 0.6, 0.3], 1))
    moves = evolve(plan, 1, 2, scores, points)
    # A quarter of eight is two: the failed one and the one of 0.9.
    assert [move.member for move in moves] == [3, 6]
    for move in moves:
        assert move.donor in (2, 5)
        donor = points[move.donor - 1]
        assert {k: move.point[k] for k in donor} == donor
        for section in ("inner", "outer"):
            ((step, rate),) = read_changes(str(move.point[f"{section}.lr_changes"]))
            assert step == 2
            start = float(donor[f"{section}.lr"])
            domain = plan.space.search[f"{section}.lr"]
            assert isinstance(domain, LogUniform)
            clipped = [min(max(start * f, domain.low), domain.high) for f in (1.25, 0.8)]
            assert rate in [float(f"{rate:.6g}") for rate in clipped]
    assert evolve(plan, 1, 2, scores, points) == moves
    assert evolve(plan, 2, 4, scores, points) != moves


def test_more_accuracy_is_better_where_the_mode_says_so() -> None:
    plan = _plan()
    upside_down = replace(plan, space=replace(plan.space, mode="max"))
    points = plan.points
    assert points is not None
    scores = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    (move,) = evolve(plan, 1, 2, scores, points)
    assert (move.member, move.donor) == (4, 1)
    (move,) = evolve(upside_down, 1, 2, scores, points)
    assert (move.member, move.donor) == (1, 4)
    with pytest.raises(SpaceError, match="every member has failed"):
        evolve(plan, 1, 2, dict.fromkeys(scores, None), points)


def _population(directory: Path, plan: Plan, order: int = 1, stop: int = 10**9) -> TrialContext:
    """A population in this process; ``order`` -1 runs members backwards, ``stop`` ends it early."""
    root = directory / "runs"
    search = create_search(root, "s", {"plan": plan.document()}) if not root.exists() else None
    context = TrialContext(root / "searches" / "s", directory / "data", offline=True)
    assert search is None or search.path == context.path
    rounds = iter(range(stop))

    def run_round(work: object) -> bool:
        if next(rounds, None) is None:
            return False
        points = plan.points
        assert points is not None
        for number, point in list(enumerate(points, 1))[::order]:
            work(number, point, lambda step, score: True)  # type: ignore[operator]
        return True

    run_population(plan, context, lambda line: None, run_round)
    return context


def _outcome(context: TrialContext) -> list[tuple[Point, float | None, str]]:
    found = []
    for member in context.search.trials():
        assert member.status == "finished"
        digest = context.search.run(member.run).info()["result"]["params_sha256"]
        found.append((member.point, member.score, digest))
    return found


@pytest.mark.slow
def test_the_schedule_that_was_found_trains_to_the_same_bits(tmp_path: Path) -> None:
    plan = _plan()
    context = _population(tmp_path, plan)
    members = context.search.trials()
    changed = [m for m in members if "inner.lr_changes" in m.point]
    assert changed
    for member in changed:
        run = context.search.run(member.run)
        assert run.info()["forked_from"]["run"].startswith("trial-")
        again = fresh_run(tmp_path / member.run, plan.recipe(member.point), context.data_dir)
        result = in_process.execute(Job(again.path, context.data_dir, tested=False), quiet)
        assert result["params_sha256"] == run.info()["result"]["params_sha256"]
        for metric in ("train/loss", plan.space.metric):
            mine, theirs = series(again)[metric], series(run)[metric]
            assert [(p.step, p.value) for p in mine] == [(p.step, p.value) for p in theirs]


@pytest.mark.slow
def test_the_order_of_members_and_an_interruption_do_not_matter(tmp_path: Path) -> None:
    plan = _plan(seed=3)
    whole = _outcome(_population(tmp_path / "a", plan))
    assert _outcome(_population(tmp_path / "b", plan, order=-1)) == whole
    with pytest.raises(KeyboardInterrupt):
        _population(tmp_path / "c", plan, stop=2)
    assert _outcome(_population(tmp_path / "c", plan)) == whole


@pytest.mark.slow
def test_a_member_killed_before_its_result_gets_it(tmp_path: Path) -> None:
    plan = _plan()
    context = _population(tmp_path, plan)
    (first, *_) = context.search.trials()
    run = context.search.run(first.run)
    result = run.info()["result"]
    run.update(status="running", result=None)
    context.search.record(replace(first, status="running"))
    _population(tmp_path, plan)
    assert run.info()["status"] == "finished"
    assert run.info()["result"]["params_sha256"] == result["params_sha256"]


@pytest.mark.slow
def test_a_fork_records_its_segments(tmp_path: Path) -> None:
    plan = _plan()
    context = _population(tmp_path, plan)
    forked = [m for m in context.search.trials() if "-round-" in m.run]
    assert forked
    for member in forked:
        segments = context.search.run(member.run).info()["segments"]
        recipe = plan.recipe(member.point)
        assert segments[0] == {
            "from_step": 0,
            "inner.lr": recipe.inner.lr,
            "outer.lr": recipe.outer.lr,
        }
        assert [s["from_step"] for s in segments[1:]] == [s for s, _ in recipe.inner.lr_changes]
        assert segments[-1]["inner.lr"] == recipe.inner.lr_changes[-1][1]


@pytest.mark.slow
def test_a_fork_needs_a_recipe_that_agrees_so_far(tmp_path: Path) -> None:
    plan = _plan()
    context = _population(tmp_path, plan)
    (first, *_) = context.search.trials()
    run = context.search.run(first.run)
    other = plan.recipe({**first.point, "outer.lr": 5e-3})
    with pytest.raises(RunError, match="agrees with its own"):
        branch(run, 4, other, "other")
    with pytest.raises(RunError, match="checkpoint"):
        branch(run, 5, plan.recipe({**first.point, "outer.lr_changes": "5: 0.5"}), "other")
    assert not context.search.run("other").path.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"search": {"inner.lr": Choice(0.1, 0.2)}}, "LogUniform or Uniform"),
        ({"search": {"outer.clip": LogUniform(0.1, 1.0)}}, "changes rates only"),
        ({"fixed": {**SMALL_SPACE.fixed, "outer.schedule": "cosine"}}, "constant"),
        ({"fixed": {**SMALL_SPACE.fixed, "algorithm.name": "meta_sgd"}}, "learns its step sizes"),
    ],
)
def test_what_a_population_cannot_change_is_refused(change: dict[str, object], said: str) -> None:
    from metadist.search.plan import check_learners
    from metadist.tasks import TaskShape

    with pytest.raises(SpaceError, match=said):
        check_learners(_plan(replace(SPACE, **change)), TaskShape((1,), 1))  # type: ignore[arg-type]


def test_other_schedulers_have_no_rounds() -> None:
    with pytest.raises(AssertionError):
        boundaries(_plan(replace(SPACE, scheduler=Asha())))


@pytest.mark.slow
def test_members_whose_records_are_lost_are_not_trained_again(tmp_path: Path) -> None:
    plan = _plan()
    context = _population(tmp_path, plan)
    before = _outcome(context)
    attempts = {run.name: run.latest_attempt() for run in list_runs(context.search.runs)}
    for member in context.search.trials():
        context.search.record_path(member.number).write_text("{")
    repair_records(plan, context.search, lambda line: None)
    assert _outcome(_population(tmp_path, plan)) == before
    assert {r.name: r.latest_attempt() for r in list_runs(context.search.runs)} == attempts
