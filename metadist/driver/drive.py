"""The driver of a run: run directory, tracking, progress, workers, result, report.

The driver is the only process that talks to MLflow, and it sends only what the run's own log
holds durably; a tracking server that is away costs the training nothing.
"""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline.errors import StoreError
from data_pipeline.storage import object_requests
from data_pipeline.storage.object_uri import address_of
from data_pipeline.timeouts import seconds_of
from metadist.compute.device import Device
from metadist.driver.progress import AboveProgress, Progress, ProgressFollower
from metadist.driver.resolve_run import find_run
from metadist.errors import (
    DamagedCheckpoint,
    NonFiniteError,
    SchemaError,
    SupersededError,
    TrackingError,
)
from metadist.executors import in_process
from metadist.executors.job import Job
from metadist.executors.world_size import WorldSize
from metadist.plugins import Plugin
from metadist.process.announce import Announce
from metadist.process.home import settle
from metadist.process.provenance import provenance
from metadist.process.signals import StopRequest
from metadist.recipe.schema import Recipe
from metadist.report import write_report
from metadist.runs import checkpoints
from metadist.runs.record import check_name
from metadist.runs.run_dir import Driver, RunDir
from metadist.track import (
    Synchroniser,
    default_tracking_uri,
    ensure_experiment,
    own_run,
    public_uri,
    reopen_run,
    run_params,
    run_tags,
    store_of,
    whole_uri,
)
from metadist.training.run_control import RunControl

log = logging.getLogger(__name__)
#: How a run ends that has a result: at its last step, or before because a search said so.
COMPLETE = ("finished", "stopped")
#: Seconds for MLflow to be told of the end, where somebody wants this process to be gone.
_HURRY = 20.0


@dataclass(frozen=True)
class Trial:
    """What makes a run a trial of a search: it may be stopped early, and has no report.

    Attributes:
        control: told of every validation; says when to stop.
        tested: evaluate on test classes at the end.
        tags: for MLflow, as the run of the search that this one is nested under.
    """

    control: RunControl | None = None
    tested: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drive:
    """Everything a driver needs to know; see :func:`metadist.train`."""

    recipe: Recipe
    facts: dict[str, Any]
    name: str | None
    default_name: str
    resume: str | None
    runs_dir: Path
    data_dir: Path
    workers: WorldSize
    address: str | None
    device: Device
    tracking_uri: str | None
    experiment: str
    offline: bool
    progress: bool
    plugins: tuple[Plugin, ...] = ()
    trial: Trial | None = None


def drive(request: Drive, announce: Announce) -> dict[str, Any]:
    """Train as requested and return the run's result.

    Raises:
        Terminated: asked to end by a signal; the run can be continued.
        MetadistError, DataError: the message says how to mend it.
    """
    settle()
    with StopRequest(handled=False):
        return _drive(request, announce)


def _drive(request: Drive, announce: Announce) -> dict[str, Any]:
    if request.name is not None:
        check_name(request.name)
    wait = seconds_of("METADIST_TRACKING_WAIT_S", 300.0, TrackingError)
    if request.tracking_uri is not None:
        request = replace(request, tracking_uri=whole_uri(request.tracking_uri))
    uri = request.tracking_uri or default_tracking_uri(request.runs_dir.parent)
    if not request.offline and request.resume is None:
        # Before anything exists that would have to be cleaned up.
        with suppress(SchemaError):  # the run can be sent later
            ensure_experiment(uri, request.experiment)
    # From its directory on, a run must be told how it ends.
    starting = StopRequest().start()
    started = find_run(
        request.runs_dir,
        request.recipe,
        request.name,
        request.resume,
        request.default_name,
        {**request.facts, "mlflow": None, "restarts": 0, "result": None},
    )
    run = started.run
    if started.result is not None:
        announce(f"{run.name} is finished already; nothing to do")
        info = run.info()
        if not info.get("closed") or not (request.offline or info.get("mlflow")):
            # Its driver was killed between the result and the last point sent, or was offline.
            mlflow = _open_tracking(request, run, uri, announce)
            _close(mlflow, Driver(run, info.get("driver")), "finished", wait, announce)
        return started.result
    synchroniser = _open_tracking(request, run, uri, announce)
    with ExitStack() as undo:
        if synchroniser is not None:
            undo.callback(synchroniser.stop)
        _announce_start(request, run, started.resumed, announce)
        driver = run.drive(status="running", made_by=_makers(run, announce))
        undo.pop_all()
    status = "failed"
    try:
        starting.stop()
        starting.check()
        with _progress(request, run, announce) as above:
            result = _fit(request, run, above)
        result["restarts"] = run.latest_attempt() - 1
        ended = "stopped" if result.pop("stopped", False) else "finished"
        driver.update(status=ended, result=result, restarts=result["restarts"])
        status = ended
    except BaseException as error:
        status = _ended_early(driver, error)
        if status != "superseded" and not isinstance(error, NonFiniteError):
            announce(f"{run.name} has ended early; go on with --resume {run.name}")
        raise
    finally:
        reported = request.trial is None
        _close(synchroniser, driver, status, wait, announce, reported=reported)
    return result


def _ended_early(driver: Driver, error: BaseException) -> str:
    """Record and return how a run has ended before its result."""
    # The attempt or driver that has taken over owns run.json and the MLflow run.
    if isinstance(error, SupersededError):
        return "superseded"
    status = "killed" if isinstance(error, KeyboardInterrupt) else "failed"
    try:
        with _despite_the_store(status):
            driver.update(status=status)
    except SupersededError:
        return "superseded"
    return status


@contextmanager
def _despite_the_store(status: str) -> Iterator[None]:
    """What can be done again later must not hide how the run has ended, nor take long if badly."""
    said = object_requests.gave_up()
    try:
        with object_requests.impatient(math.inf if status in COMPLETE else 5.0):
            yield
    except StoreError as error:
        log.log(logging.DEBUG if said else logging.ERROR, "%s", error)


def _makers(run: RunDir, announce: Announce) -> list[dict[str, str]]:
    """The sources and machines that have worked at a run, this one included."""
    there: list[dict[str, str]] = run.info().get("made_by") or []
    me = provenance()
    if there and there[-1].get("commit") != me["commit"]:
        announce(
            f"{run.name} was trained by metadist {there[-1].get('commit')} so far and goes on with "
            f"{me['commit']}: the same bits are promised within one version only"
        )
    return there if me in there else [*there, me]


def _open_tracking(
    request: Drive, run: RunDir, uri: str, announce: Announce
) -> Synchroniser | None:
    """The MLflow run of a run directory, new or as it was, fed in the background; None: offline."""
    if request.offline:
        return None
    try:
        return _synchroniser(request, run, uri)
    except SchemaError as error:
        log.warning(
            "%s. Training goes on without it; then: metadist sync %s --tracking-uri %s",
            *(error, shlex.quote(str(run.path)), public_uri(uri)),
        )
        return None
    except BaseException:
        announce(f"{run.name} has not begun; go on with --resume {run.name}")
        raise


def _synchroniser(request: Drive, run: RunDir, uri: str) -> Synchroniser:
    info = run.info()
    tags = run_tags(info, world_size=max(request.workers.low, 1), directory=run.path)
    tags |= request.trial.tags if request.trial else {}
    known, asked = info.get("mlflow") or {}, request.tracking_uri
    if known and asked is not None and public_uri(asked) != whole_uri(known["tracking_uri"]):
        known = {}  # that store shall have the run too, with every point
    if known:
        uri = store_of(known["tracking_uri"], asked, request.runs_dir.parent, run.path)
    own = partial(own_run, run, uri, tags, experiment=known.get("experiment", request.experiment))
    run_id = own(run_id=known.get("run_id"), starts=True)
    reopen_run(uri, run_id, run_params(request.recipe), tags)
    return Synchroniser(run, uri, run_id, again=lambda lost: own(run_id=lost)).start()


def _close(
    synchroniser: Synchroniser | None,
    driver: Driver,
    status: str,
    wait: float,
    announce: Announce,
    *,
    reported: bool = True,
) -> None:
    """Report, then everything that MLflow has not got yet; a signal does not cut it short."""
    if status == "superseded":
        if synchroniser is not None:
            synchroniser.stop()
        return
    hurry = None if synchroniser is None else partial(synchroniser.hurry, _HURRY)
    with StopRequest(tell=hurry) as asked:
        _tell(synchroniser, driver, status, wait, announce, reported=reported)
    asked.check()


def _tell(
    synchroniser: Synchroniser | None,
    driver: Driver,
    status: str,
    wait: float,
    announce: Announce,
    *,
    reported: bool,
) -> None:
    run = driver.run
    if reported:
        _report(run, status, synchroniser, announce)
    # Offline nobody tells an MLflow run that was begun before of its end.
    arrived = synchroniser is not None or not run.info().get("mlflow")
    if synchroniser is not None:
        newest: list[Path] = []
        with _despite_the_store(status), suppress(DamagedCheckpoint):
            newest = [checkpoints.pull(run, step) for step in checkpoints.steps(run)[-1:]]
        arrived = synchroniser.finish(
            status, wait if status in COMPLETE else min(wait, _HURRY), checkpoints=newest
        )
    # Whoever has taken over while points were sent closes the run at its own end.
    with suppress(SupersededError), _despite_the_store(status):
        driver.update(closed=arrived and status in COMPLETE)


def _report(
    run: RunDir, status: str, synchroniser: Synchroniser | None, announce: Announce
) -> None:
    try:
        announce(f"Report: {write_report(run)}")
        with _despite_the_store(status):
            run.push_document("report")
        if synchroniser is not None:
            announce(f"Compare runs in MLflow: {synchroniser.where_to_look()}")
    except Exception:
        # A report can be made again at any time; the run's result must not depend on it.
        log.exception(
            "the report could not be written; try again with: metadist report %s", run.name
        )


@contextmanager
def _progress(request: Drive, run: RunDir, announce: Announce) -> Iterator[Announce]:
    """A live line on standard error if one is wanted; what else is said appears above it."""
    if not request.progress:
        yield announce
        return
    progress = Progress(request.recipe.outer.steps)

    def above(line: str) -> None:
        progress.clear()
        announce(line)

    root = logging.getLogger()
    handlers = root.handlers
    handler = AboveProgress(lambda: progress)
    handler.setFormatter(handlers[0].formatter if handlers else None)
    root.handlers = [handler] if handlers else []
    try:
        with ProgressFollower(run, progress):
            yield above
    finally:
        root.handlers = handlers


def _announce_start(request: Drive, run: RunDir, resumed: bool, announce: Announce) -> None:
    recipe, learner = request.recipe, request.facts["learner"]
    order = {0: "no gradient", 1: "first order", 2: "second order"}[learner["derivative_order"]]
    steps = f"{recipe.outer.steps} steps of {recipe.outer.batch} tasks"
    norm = f"{'no' if recipe.model.norm == 'none' else recipe.model.norm} normalisation"
    if learner["estimator"] == "none":
        # Without a derivative there is no network whose activations were normalised.
        norm = norm if learner["derivative_order"] else "no network"
        order, steps = "no meta-learning", "no outer steps"
    where = f"{request.workers} Ray workers" if request.workers.high else "this process"
    verb = f"Continuing {run.name}" if resumed else run.name
    found = checkpoints.newest(run, recipe.lineage) if resumed else None
    at = f" from step {found[0].step if found else 0}" if resumed else ""
    announce(
        f"{verb}{at}: {recipe.algorithm.name} ({order}, {norm}) "
        f"on {recipe.data.dataset}, {steps}, {where}; {address_of(run.path)}"
    )


def _fit(request: Drive, run: RunDir, announce: Announce) -> dict[str, Any]:
    trial = request.trial or Trial(tested=True)
    job = Job(
        run.path,
        request.data_dir,
        request.workers,
        request.address,
        request.device,
        request.plugins,
        control=trial.control,
        tested=trial.tested,
    )
    if request.workers.high == 0:
        return in_process.execute(job, announce)
    from metadist.executors import ray_train

    return ray_train.execute(job, announce)
