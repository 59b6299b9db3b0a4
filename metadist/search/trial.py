"""One trial: a run that says its validation scores, and ends when it is told to."""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from metadist.compute.device import Device
from metadist.driver.request import RunRequest
from metadist.driver.resolve_run import AUTO
from metadist.driver.run import train
from metadist.errors import (
    GivenUp,
    MetadistError,
    NonFiniteError,
    PluginFailure,
    RecipeError,
    ResourceError,
    SpaceError,
    SupersededError,
    TrackingError,
)
from metadist.executors.control.trial_mailbox import Report, TrialMailbox
from metadist.executors.world_size import WorldSize
from metadist.plugins import Plugin, use
from metadist.recipe.schema import Recipe
from metadist.runs.log import Point as LogPoint
from metadist.runs.log import series
from metadist.runs.run_dir import RunDir
from metadist.search import search_dir
from metadist.search.plan import Plan
from metadist.search.search_dir import SearchDir, Status, TrialRecord, run_tags
from metadist.space import Point
from metadist.track import sync_run
from metadist.training.run_control import Command, Progress, RunControl

log = logging.getLogger(__name__)


#: Errors that training the same recipe again would meet again. Others that are known (a full disk,
#: data that cannot be read, a node that lacks a plugin) say nothing of the setting.
_OF_THE_SETTING = (NonFiniteError, RecipeError, SpaceError, GivenUp, PluginFailure)


@dataclass(frozen=True)
class TrialContext:
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
    plugins: tuple[str | Path | Plugin, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def search(self) -> SearchDir:
        """The search."""
        return SearchDir(self.path)


@dataclass(frozen=True)
class ReportControl:
    """Reports a run's validations from the process that trains it."""

    report: Report
    judges = True

    def command(self, progress: Progress) -> Command:
        """What the search says to the best score so far."""
        return "go" if self.report(progress.step, progress.best) else "stop"


def run_trial(plan: Plan, context: TrialContext, number: int, point: Point, report: Report) -> None:
    """Train a trial, or go on with it; what has been reported before is reported again.

    A trial that fails has a record that says why, and the worst of scores.

    Raises:
        ResourceError: the machine has failed the trial; it can go on from where it is.
    """
    search, name = context.search, f"trial-{number:04d}"
    known = {t.number: t for t in search.trials()}.get(number)
    # What is written down of a trial is what its run was made for.
    record = TrialRecord(number, known.point if known else point, name, "running")
    run = search.run(name)
    if known is not None and known.over:
        replay(plan, run, report)
        if known.score is None:
            report(plan.space.steps, math.nan)
        return
    search.record(record)

    def work() -> Status:
        recipe = plan.recipe(record.point)
        if run.path.exists() and not is_of(run, recipe):
            log.warning("%s was made for another point; it is set aside", run.path)
            search.set_run_aside(number, name)
        if run.path.exists() and not replay(plan, run, report):
            return _end(run)
        return train_trial(plan, context, name, recipe, report, number)

    run_recorded(plan, context, record, report, plan.space.steps, work)


def run_recorded(
    plan: Plan,
    context: TrialContext,
    record: TrialRecord,
    report: Report,
    until: int,
    work: Callable[[], Status],
) -> None:
    """Do what a trial does, and write down how it went; what its setting does wrong ends this
    trial only.

    Args:
        until: the step at which a trial that fails has the worst of scores.

    Raises:
        ResourceError: something went wrong for which its setting is not to blame. No score is told,
            and the trial is not over.
    """
    search, run = context.search, context.search.run(record.run)
    try:
        with use(context.plugins):
            status = work()
        search.record(replace(scored(plan, run, record), status=status))
    except SupersededError as error:
        # Whoever has taken over writes the record.
        log.warning("%s: %s", record.run, error)
    except Exception as error:
        known = isinstance(error, MetadistError | DataError | OSError)
        if known and not isinstance(error, _OF_THE_SETTING):
            raise ResourceError(
                f"{record.run}: {error}. That is not for its setting to mend, so the trial has not "
                f"failed: mend it, and go on with --resume {search.name}"
            ) from error
        why = str(error) if known else f"{type(error).__name__}: {error}"
        log.warning("%s failed: %s", record.run, why, exc_info=not known)
        failed = replace(scored(plan, run, record), score=None, status="failed", error=why)
        search.record(failed)
        report(until, math.nan)


def train_trial(
    plan: Plan, context: TrialContext, name: str, recipe: Recipe, report: Report, number: int
) -> Status:
    """Train a trial's run, or go on with it, and say how it has ended."""
    # Trials wait for each other's workers, for as long as it takes.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "3600")
    if context.workers <= 1:
        result = train_run(context, name, recipe, ReportControl(report))
    else:
        mailbox = TrialMailbox(context.search.stop_files / f"asks-{number:04d}")
        mailbox.clear()
        work = functools.partial(train_run, context, name, recipe, mailbox)
        result = _in_thread(work, functools.partial(mailbox.answer, report))
    return "stopped" if result["steps"] < plan.space.steps and result["steps"] else "finished"


def train_run(
    context: TrialContext, name: str, recipe: Recipe, control: RunControl | None = None
) -> dict[str, Any]:
    """Train a run of the search, or go on with it; its result.

    A tracking server that is away costs the training nothing: the search sends the run at its end.

    Args:
        control: of a trial; other runs are evaluated on test classes.
    """
    request = RunRequest(
        recipe,
        name=name,
        resume=AUTO,
        workers=WorldSize.of(context.workers if context.workers > 1 else 0),
        data_dir=context.data_dir,
        runs_dir=context.search.runs,
        tracking_uri=context.tracking_uri,
        experiment=context.experiment,
        offline=context.offline,
        device=context.device,
        plugins=context.plugins,
        control=control,
        tested=control is None,
        reported=False,
        tags={**context.tags, **run_tags(name)},
    )
    try:
        return train(request, log.info)[1]
    except TrackingError as error:
        log.warning("%s: trained without MLflow for now (%s)", name, error)
        return train(replace(request, offline=True), log.info)[1]


def _in_thread(
    work: Callable[[], dict[str, Any]], attend: Callable[[threading.Event], None]
) -> dict[str, Any]:
    """The result of ``work`` in a thread of its own, while this one attends to something else.

    Tune takes reports from the thread that it has called only.
    """
    ended, future = threading.Event(), Future[dict[str, Any]]()
    future.add_done_callback(lambda _: ended.set())

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="trial", daemon=True).start()
    attend(ended)
    return future.result()


def is_of(run: RunDir, recipe: Recipe) -> bool:
    """Whether a run was made by a recipe: then its scores are those of that recipe."""
    try:
        return bool(run.info()["recipe_hash"] == run.recipe().hash == recipe.hash)
    except (MetadistError, KeyError, UnicodeDecodeError):
        return False


def replay(plan: Plan, run: RunDir, report: Report) -> bool:
    """Report what a run has shown already; whether it goes on."""
    goes_on = True
    for step, best in best_so_far(plan, run):
        goes_on = report(step, best) and goes_on
    return goes_on


def _end(run: RunDir) -> Status:
    """End a trial that was told to stop when its process died."""
    info = run.info()
    if info["status"] == "finished":
        return "finished"
    if info["status"] != "stopped":
        run.update(status="stopped")
        if info.get("mlflow"):
            try:
                sync_run(run)
                run.update(closed=True)
            except MetadistError as error:
                log.warning("%s: MLflow is not told of its end: %s", run.path, error)
    return "stopped"


def scored(plan: Plan, run: RunDir, record: TrialRecord) -> TrialRecord:
    """A record with what the run's log says."""
    if not run.path.is_dir():
        return record
    found, steps = best_so_far(plan, run), steps_done(run)
    record = replace(record, steps=steps, tasks=steps * run.recipe().outer.batch)
    score = found[-1][1] if found else math.nan
    if not math.isfinite(score):
        return record
    return replace(record, score=score, best_step=next(k for k, best in found if best == score))


def validations(plan: Plan, run: RunDir) -> list[LogPoint]:
    """Every validation, by step.

    Without a score (NaN) where an episode failed and is left out: the log has the mean over the
    rest then, which would favour learners that diverge on what is hard for them. The run itself
    does not take such a checkpoint for its best either.
    """
    found = series(run)
    failed: set[int] = set()
    if plan.metric.leaves_out_failed:
        failed = {p.step for p in found.get("val/failed", []) if p.value > 0}
    return [
        LogPoint(p.metric, p.step, p.time, math.nan if p.step in failed else p.value)
        for p in found.get(plan.space.metric, [])
    ]


def best_so_far(plan: Plan, run: RunDir) -> list[tuple[int, float]]:
    """Step and best score so far of every validation; NaN until there is one."""
    points = validations(plan, run)
    best = search_dir.best_so_far([p.value for p in points], plan.space.mode)
    return list(zip((p.step for p in points), best, strict=True))


def steps_done(run: RunDir) -> int:
    """Outer steps that the log knows of."""
    losses = series(run).get("train/loss", [])
    return losses[-1].step if losses else 0
