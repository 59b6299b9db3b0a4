"""The driver of a run, from a request to a result.

It checks everything before anything exists, finds or creates the run directory, hands the work to
an executor, and tells the run's record, its report and MLflow how it has ended. The driver is the
only process that talks to MLflow, and it sends only what the run's own log holds durably; a
tracking server that is away costs the training nothing.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from data_pipeline.storage.object_uri import address_of
from data_pipeline.timeouts import seconds_of
from metadist import plugins
from metadist.compute.setup import Setup
from metadist.driver.ending import Ending
from metadist.driver.preflight import (
    check_fresh,
    check_workers,
    facts_of,
    preflight,
    resolve_recipe,
)
from metadist.driver.progress import Progress, ProgressFollower
from metadist.driver.request import RunRequest
from metadist.driver.resolve_run import find_run, run_to_continue
from metadist.driver.tracking import check_tracking, open_tracking
from metadist.errors import NonFiniteError, NumericsError, PluginFailure, TrackingError
from metadist.executors import in_process
from metadist.executors.job import Job
from metadist.process.announce import Announce, quiet
from metadist.process.home import settle
from metadist.process.provenance import provenance
from metadist.process.signals import StopRequest
from metadist.report.phrases import plural
from metadist.runs import checkpoints
from metadist.runs.record import check_name
from metadist.runs.run_dir import Driver, RunDir
from metadist.track import tensorboard
from metadist.track.tensorboard import EventFile


def train(request: RunRequest, announce: Announce = quiet) -> tuple[RunDir, dict[str, Any]]:
    """Train as requested and return the run and its result; see :func:`metadist.train`.

    Raises:
        Terminated: asked to end by a signal; the run can be continued.
        MetadistError, DataError: the message says how to mend it.
    """
    with plugins.use(request.plugins):
        run = run_to_continue(request)
        if run is None or run.info().get("status") != "finished":
            check_workers(request.workers, request.device, request.cluster, announce)
        there = None if run is None else run.recipe()
        recipe = resolve_recipe(request.load_recipe(run), announce, there)
        setup = preflight(recipe, request.data_dir, announce)
        if run is None:
            check_fresh(setup)
        settle()
        with StopRequest(handled=False):
            return _drive(request, setup, announce)


def _drive(request: RunRequest, setup: Setup, announce: Announce) -> tuple[RunDir, dict[str, Any]]:
    if request.name is not None:
        check_name(request.name)
    wait = seconds_of("METADIST_TRACKING_WAIT_S", 300.0, TrackingError)
    check_tracking(request)
    # From its directory on, a run must be told how it ends.
    starting = StopRequest().start()
    run, resumed = find_run(request, setup.recipe, facts_of(setup))
    info, status = run.info(), "failed"
    if info.get("status") == "finished" and info.get("result") is not None:
        _close_finished(request, run, wait, announce)
        return run, info["result"]
    line = _start_line(request, setup, run, resumed)
    ending = _begin(request, run, line, wait, announce)
    try:
        starting.stop()
        starting.check()
        result = _execute(request, setup, run, announce)
        result["restarts"] = run.latest_attempt() - 1
        ended = "stopped" if result.pop("stopped", False) else "finished"
        ending.driver.update(status=ended, result=result, restarts=result["restarts"])
        status = ended
    except BaseException as error:
        status = ending.failed(error)
        if status != "superseded" and not isinstance(error, NonFiniteError):
            announce(f"{run.name} has ended early; {_cure(error, setup, run.name)}")
        raise
    finally:
        ending.close(status)
    return run, result


def _cure(error: BaseException, setup: Setup, run: str) -> str:
    fault = isinstance(error, PluginFailure | NumericsError) and plugins.of(setup.recipe)
    if fault:  # a run goes on with the same source only
        return "mend the plugin, then start a run of another name: this one has its old source"
    return f"go on with --resume {run}"


def _close_finished(request: RunRequest, run: RunDir, wait: float, announce: Announce) -> None:
    """Tell MLflow of the end, if the driver was killed before it had, or was offline."""
    announce(f"{run.name} is finished already; nothing to do")
    info = run.info()
    if not info.get("closed") or not (request.offline or info.get("mlflow")):
        synchroniser = open_tracking(request, run, announce)
        Ending(Driver(run, info.get("driver")), synchroniser, wait, announce).close("finished")


def _begin(request: RunRequest, run: RunDir, line: str, wait: float, announce: Announce) -> Ending:
    """Become the run's driver, and have MLflow told of it from now on."""
    synchroniser = open_tracking(request, run, announce)
    with ExitStack() as undo:
        if synchroniser is not None:
            undo.callback(synchroniser.stop)
        announce(line)
        driver = run.drive(status="running", made_by=_makers(run, announce))
        undo.pop_all()
    return Ending(driver, synchroniser, wait, announce, request.reported)


def _execute(request: RunRequest, setup: Setup, run: RunDir, announce: Announce) -> dict[str, Any]:
    job = Job(
        run.path,
        request.data_dir,
        request.workers,
        request.cluster,
        request.device,
        tuple(plugins.of(setup.recipe).values()),
        () if request.control is None else (request.control,),
        request.tested,
        setup if request.workers.high == 0 else None,
        request.profile,
    )
    with ExitStack() as shown:
        if request.progress:
            progress = Progress(setup.recipe.outer.steps, setup.objective.metric)
            shown.enter_context(ProgressFollower(run, progress))
        if request.tensorboard or tensorboard.wanted():
            shown.enter_context(EventFile(run))
        if job.workers.high == 0:
            return in_process.execute(job, announce)
        from metadist.executors import ray_train

        return ray_train.execute(job, announce)


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


def _start_line(request: RunRequest, setup: Setup, run: RunDir, resumed: bool) -> str:
    recipe, learner = setup.recipe, setup.learner
    order = {0: "no gradient", 1: "first order", 2: "second order"}[learner.derivative_order]
    if learner.estimator == "exact" and learner.derivative_order == 1:
        order = "exact gradient"  # nothing is left out: there are no inner gradients
    steps = f"{plural(recipe.outer.steps, 'step')} of {plural(recipe.outer.batch, 'task')}"
    norm = f"{'no' if recipe.model.norm == 'none' else recipe.model.norm} normalisation"
    if learner.estimator == "none":
        # Without a derivative there is no network whose activations were normalised.
        norm = norm if learner.derivative_order else "no network"
        order, steps = "no meta-learning", "no outer steps"
    where = f"{request.workers} Ray workers" if request.workers.high else "this process"
    verb, at = run.name, ""
    if resumed:
        found = checkpoints.newest(run, recipe.lineage)
        verb, at = f"Continuing {run.name}", f" from step {found[0].step if found else 0}"
    return (
        f"{verb}{at}: {recipe.algorithm.name} ({order}, {norm}) "
        f"on {recipe.data.dataset}, {steps}, {where}; {address_of(run.path)}"
    )
