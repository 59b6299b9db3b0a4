"""Population-based training, in rounds: a schedule of learning rates is searched.

Jaderberg et al., "Population Based Training of Neural Networks", 2017, in its synchronous form. All
members train to the same step; then each of the worst takes over the run of one of the best and
changes its rates. What is taken over is a branch: a run whose recipe holds the whole schedule that
has led to it (``inner.lr_changes``, ``outer.lr_changes``), so that training this recipe gives the
same bits. Which member takes over what is a function of scores, seed and round, so it does not
depend on how many members run at once.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.storage.local import read_json, write_atomic
from metadist.errors import DamagedCheckpoint, SpaceError
from metadist.executors.control.trial_mailbox import Report
from metadist.executors.ray_tune import TrialFunction
from metadist.process.announce import Announce
from metadist.recipe.rate_changes import read_changes, write_changes
from metadist.runs import checkpoints
from metadist.runs.branch import branch
from metadist.search.display import figure, values
from metadist.search.plan import Plan, at, uniform
from metadist.search.search_dir import SearchDir, Status, TrialRecord, rank
from metadist.search.trial import TrialContext, replay, run_recorded, train_trial, validations
from metadist.space import Integers, LogUniform, Point, Population, Uniform


@dataclass(frozen=True)
class Move:
    """A member takes over another one's run.

    Attributes:
        member, donor: numbers.
        run: name of the branch.
        point: of the branch: the donor's, with a change of rates from the round's step on.
    """

    member: int
    donor: int
    run: str
    point: Point


def boundaries(plan: Plan) -> list[int]:
    """Outer steps after which the members are compared; the last is the end."""
    assert isinstance(plan.space.scheduler, Population)
    every = plan.space.scheduler.interval * plan.space.every
    return [*range(every, plan.space.steps, every), plan.space.steps]


def evolve(
    plan: Plan, number: int, step: int, scores: Mapping[int, float | None], points: Sequence[Point]
) -> list[Move]:
    """Who takes over whose run after a round.

    Args:
        number: of the round, from 1.
        step: outer steps done.
        scores: of each member at this step; None: it has failed.
        points: of each member, by number.
    """
    how = plan.space.scheduler
    assert isinstance(how, Population)
    ordered = sorted(scores, key=lambda m: (rank(scores[m], plan.space.mode), m))
    several = max(1, int(len(ordered) * how.quantile))
    best = [m for m in ordered[:several] if scores[m] is not None]
    worst = [m for m in ordered[len(ordered) - several :] if m not in best]
    if not best:
        raise SpaceError(f"round {number}: every member has failed")
    # A member that has failed has nothing to go on with, however few may be replaced.
    worst += [m for m in ordered if scores[m] is None and m not in worst]
    moves = []
    for member in sorted(worst):
        draw = functools.partial(uniform, plan.seed, f"round {number} member {member}")
        donor = best[int(draw("donor") * len(best))]
        point = dict(points[donor - 1])
        for key, domain in plan.space.search.items():
            assert isinstance(domain, LogUniform | Uniform | Integers)
            section = key.partition(".")[0]
            changes = read_changes(point.get(f"{section}.lr_changes", ""))
            now = float(changes[-1][1] if changes else point[key])
            if draw(f"{key} anew") < how.resample:
                rate = float(at(domain, draw(f"{key} value")))
            else:
                rate = now * how.factors[int(draw(f"{key} factor") * len(how.factors))]
            # Six digits: more would only be hard to read.
            rate = float(f"{min(max(rate, float(domain.low)), float(domain.high)):.6g}")
            if rate != now:
                point[f"{section}.lr_changes"] = write_changes((*changes, (step, rate)))
        moves.append(Move(member, donor, f"trial-{member:04d}-round-{number}", point))
    return moves


def run_population(
    plan: Plan,
    context: TrialContext,
    announce: Announce,
    run_round: Callable[[TrialFunction], bool],
) -> None:
    """All rounds, from wherever the search stands.

    Args:
        run_round: runs a work for every member; says whether all have ended.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    search = context.search
    points = plan.points
    assert points is not None
    there = {trial.number for trial in search.trials()}
    for number, point in enumerate(points, 1):
        if number not in there:
            search.record(TrialRecord(number, point, f"trial-{number:04d}", "running"))
    ends = boundaries(plan)
    for number, step in enumerate(ends, 1):
        path = search.path / "rounds" / f"{number:04d}.json"
        if not path.is_file():
            if not run_round(functools.partial(run_member, plan, context, step)):
                raise KeyboardInterrupt
            if step == plan.space.steps:
                return
            _decide(plan, search, number, step, path)
        for move in _moves(path):
            _apply(plan, search, step, move, announce)
        scores = [score for score in read_json(path)["scores"] if score is not None]
        best = figure(min(scores, key=lambda s: rank(s, plan.space.mode)), plan.metric)
        told = f"best {best}, {len(_moves(path))} taken over"
        announce(f"Round {number} of {len(ends)}, step {step}: {told}")


def _decide(plan: Plan, search: SearchDir, number: int, step: int, path: Path) -> None:
    """Write down who takes over what, before anybody does."""
    members = search.trials()
    scores = {m.number: _score_at(plan, search, m, step) for m in members}
    moves = evolve(plan, number, step, scores, [m.point for m in members])
    document = {"step": step, "scores": list(scores.values()), "moves": [asdict(m) for m in moves]}
    write_atomic(path, json.dumps(document, sort_keys=True, indent=1).encode())


def _score_at(plan: Plan, search: SearchDir, member: TrialRecord, step: int) -> float | None:
    if member.status == "failed":
        return None
    points = validations(plan, search.run(member.run))
    found = next((p.value for p in points if p.step == step), math.nan)
    return None if math.isnan(found) else found


def _moves(path: Path) -> list[Move]:
    try:
        return [Move(**move) for move in read_json(path)["moves"]]
    except (DataError, KeyError, TypeError) as error:
        raise SpaceError(f"{path}: damaged ({error}); remove it to compare them again") from None


def _apply(plan: Plan, search: SearchDir, step: int, move: Move, announce: Announce) -> None:
    """Let a member take over; what was done before is not done again."""
    members = {m.number: m for m in search.trials()}
    member, donor = members[move.member], members[move.donor]
    if _round_of(member.run) >= _round_of(move.run):
        return
    if not search.run(move.run).path.exists():
        try:
            branch(search.run(donor.run), step, plan.recipe(move.point), move.run)
        except DamagedCheckpoint as error:
            # Its recipe says everything: trained from the start it comes to the same.
            announce(f"  trial {move.member} starts afresh: {error}")
    search.record(TrialRecord(move.member, move.point, move.run, "running"))
    rates = {k: v for k, v in move.point.items() if k.endswith("lr_changes")}
    announce(f"  trial {move.member} takes over trial {move.donor}: {values(rates)}")


def _round_of(run: str) -> int:
    """After which round a member's run began; 0 for its first."""
    return int(run.rpartition("-")[2]) if "-round-" in run else 0


def run_member(
    plan: Plan, context: TrialContext, until: int, number: int, point: Point, report: Report
) -> None:
    """Train a member to the end of a round; it raises what :func:`run_recorded` does."""
    search = context.search
    record = {t.number: t for t in search.trials()}[number]
    run = search.run(record.run)
    if record.status == "failed":
        report(until, math.nan)
        return

    def limited(step: int, score: float) -> bool:
        report(step, score)
        return step < until

    def work() -> Status:
        last = until == plan.space.steps
        if run.path.exists():
            replay(plan, run, report)
        done = run.path.exists() and max(checkpoints.steps(run), default=0) >= until
        # At the last step a run has more to do than to train: its result, its end in MLflow.
        if not done or (last and run.info()["status"] != "finished"):
            train_trial(plan, context, record.run, plan.recipe(record.point), limited, number)
        return "finished" if last else "running"

    run_recorded(plan, context, record, report, until, work)
