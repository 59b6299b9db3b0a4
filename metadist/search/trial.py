"""One trial: a run that says its validation scores, and ends when it is told to."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from metadist.api import train
from metadist.engine.rundir import RunDir
from metadist.engine.runlog import series
from metadist.errors import MetadistError
from metadist.launch.asking import Asking, answer
from metadist.launch.drive import Trial
from metadist.launch.job import Device
from metadist.recipe import Recipe
from metadist.search.place import SearchDir, Status, TrialRecord
from metadist.search.plan import Plan
from metadist.space import Point

log = logging.getLogger(__name__)
#: Says a score at a step; returns whether to go on.
Report = Callable[[int, float], bool]


@dataclass(frozen=True)
class Place:
    """Where trials run and where their figures go.

    Attributes:
        workers: Ray workers of each; 0 and 1: the trial's own process.
        tags: of their MLflow runs, the parent run among them.
    """

    path: Path
    data_dir: Path
    workers: int = 0
    device: Device = "auto"
    tracking_uri: str | None = None
    experiment: str = "metadist"
    offline: bool = False
    plugins: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def search(self) -> SearchDir:
        """The search."""
        return SearchDir(self.path)


@dataclass(frozen=True)
class Listening:
    """Reports a run's validations from the process that trains it."""

    report: Report
    metric: str

    def goes_on(self, step: int, score: float, best: float) -> bool:
        """What the search says to the best score so far."""
        return self.report(step, best)


def run_trial(plan: Plan, place: Place, number: int, point: Point, report: Report) -> None:
    """Train a trial, or go on with it; what has been reported before is reported again.

    It raises nothing: a trial that fails has a record that says why, and the worst of scores.
    """
    search, name = place.search, f"trial-{number:04d}"
    known = {t.number: t for t in search.trials()}.get(number)
    # What is written down of a trial is what its run was made for.
    record = TrialRecord(number, known.point if known else point, name, "running")
    run = search.run(name)
    if known is not None and known.over:
        repeat(plan, run, report)
        if known.score is None:
            report(plan.space.steps, math.nan)
        return
    search.record(record)
    try:
        if run.path.exists() and not repeat(plan, run, report):
            ended = _stopped(run, plan)
        else:
            ended = train_trial(plan, place, name, plan.recipe(record.point), report, number)
        search.record(replace(scored(plan, run, record), status=ended))
    except (MetadistError, DataError, OSError, RuntimeError) as error:
        log.warning("%s failed: %s", name, error)
        failed = replace(scored(plan, run, record), score=None, status="failed")
        search.record(replace(failed, error=str(error)))
        report(plan.space.steps, math.nan)


def train_trial(
    plan: Plan, place: Place, name: str, recipe: Recipe, report: Report, number: int
) -> Status:
    """Train a trial's run, or go on with it, and say how it has ended."""
    tags = {**place.tags, "trial": str(number)}
    arguments: dict[str, Any] = {
        "name": name,
        "resume": "auto",
        "runs_dir": place.search.runs,
        "data_dir": place.data_dir,
        "device": place.device,
        "tracking_uri": place.tracking_uri,
        "experiment": place.experiment,
        "offline": place.offline,
        "plugins": place.plugins,
        "announce": log.info,
    }
    if place.workers <= 1:
        result = train(
            recipe, trial=Trial(Listening(report, plan.space.metric), tags=tags), **arguments
        )
    else:
        asking = Asking(place.search.orders / f"asks-{number:04d}")
        asking.clear()
        result = _aside(
            lambda: train(
                recipe, workers=place.workers, trial=Trial(asking, tags=tags), **arguments
            ),
            lambda stop: answer(asking, report, stop),
        )
    return "stopped" if result["steps"] < plan.space.steps and result["steps"] else "finished"


def _aside(work: Callable[[], Any], attend: Callable[[threading.Event], None]) -> Any:
    """The result of ``work`` in a thread of its own, while this one attends to something else.

    Tune takes reports from the thread that it has called only.
    """
    over, box = threading.Event(), {}

    def do() -> None:
        try:
            box["result"] = work()
        except BaseException as error:
            box["error"] = error
        finally:
            over.set()

    thread = threading.Thread(target=do, name="trial", daemon=True)
    thread.start()
    attend(over)
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["result"]


def _validations(plan: Plan, run: RunDir) -> list[tuple[int, float]]:
    """Step and best score so far of every validation in a run's log."""
    best, found = math.nan, []
    for point in series(run).get(plan.space.metric, []):
        better = point.value > best if plan.space.mode == "max" else point.value < best
        best = point.value if better or math.isnan(best) else best
        found.append((point.step, best))
    return found


def repeat(plan: Plan, run: RunDir, report: Report) -> bool:
    """Report what a run has shown already; whether it goes on."""
    goes_on = True
    for step, best in _validations(plan, run):
        goes_on = report(step, best) and goes_on
    return goes_on


def _stopped(run: RunDir, plan: Plan) -> Status:
    """A trial that had its order when its process died."""
    status = run.info()["status"]
    if status not in ("finished", "stopped"):
        run.update(status="stopped")
    return "finished" if status == "finished" else "stopped"


def scored(plan: Plan, run: RunDir, record: TrialRecord) -> TrialRecord:
    """A record with what the run's log says."""
    if not run.path.is_dir():
        return record
    validations = _validations(plan, run)
    losses = series(run).get("train/loss", [])
    steps = losses[-1].step if losses else 0
    batch = run.recipe().outer.batch
    score = validations[-1][1] if validations else math.nan
    if not math.isfinite(score):
        return replace(record, steps=steps, tasks=steps * batch)
    best_step = next(step for step, best in validations if best == score)
    return replace(record, score=score, best_step=best_step, steps=steps, tasks=steps * batch)
