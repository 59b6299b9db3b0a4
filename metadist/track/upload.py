"""What is sent to an MLflow run, and in which order. Every request here may be repeated.

MLflow's key of a point is (key, step, timestamp, value): the log gives each point the same ones
whenever it is read, so that sending it again adds nothing.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.errors import TrackingError
from metadist.runs.log import LogReader, Point
from metadist.runs.run_dir import RunDir
from metadist.track.client import connect, explained, settings, store_client
from metadist.track.ownership import own_run
from metadist.track.runs import clean_name, run_tags, set_tags, start_run
from metadist.track.uris import store_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Points per request: MLflow's own limit.
BATCH = 1000
#: MLflow's word for how a run ended.
STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
#: Figures that a run has once. MLflow draws a metric whose step is 0 as a bar for each run, and one
#: of any other step as a line, here of a single point.
ONCE = ("test/", "what_was_learned/", "perf/restarts", "perf/steps_redone", "perf/seconds_lost")


@dataclass(frozen=True)
class Action:
    """One request, which may be repeated."""

    run: Callable[[], object]
    #: The file it uploads, if it does.
    upload: Path | None = None


def send_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """Send at most :data:`BATCH` points in one request."""
    from mlflow.entities import Metric

    client.log_batch(
        run_id, metrics=[Metric(clean_name(p.metric), _value(p), p.time, _step(p)) for p in points]
    )


def _step(point: Point) -> int:
    """Of those that a run gets again, when it is given more steps, MLflow shows the latest."""
    return 0 if point.metric.startswith(ONCE) else point.step


def _value(point: Point) -> float:
    """An infinite value as the largest finite one, which is what MLflow's stores make of it."""
    value = point.value
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def artifacts(run: RunDir, checkpoints: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Files that belong to a run in MLflow, each with its folder there; those that exist."""
    for name in ("recipe.toml", "run.json", "report.html"):
        yield run.path / name, ""
    yield run.log / "metrics.parquet", "log"
    for folder in (run.evaluation, run.figures):
        for path in sorted(folder.glob("*")):
            yield path, folder.name
    for checkpoint in checkpoints:
        for path in sorted(checkpoint.rglob("*")):
            inside = path.parent.relative_to(checkpoint)
            yield path, str(Path("checkpoints", checkpoint.name, inside))


def closing(
    client: MlflowClient,
    run_id: str,
    run: RunDir,
    status: str,
    checkpoints: Sequence[Path],
    end_time: int | None = None,
) -> list[Action]:
    """What is left to do once all points are sent: artifacts, final tags, the run's end.

    A run whose ``status`` is no end is left as it is.
    """
    actions = [
        Action(partial(_upload, client, run_id, path, folder or None), path)
        for path, folder in artifacts(run, checkpoints)
        if path.is_file() and not path.name.startswith(".")
    ]
    actions.append(Action(lambda: set_tags(client, run_id, latest_tags(run))))
    if status in STATUS:
        actions.append(Action(lambda: client.set_terminated(run_id, STATUS[status], end_time)))
    return actions


def _upload(client: MlflowClient, run_id: str, path: Path, folder: str | None) -> None:
    if path.is_file():  # an old checkpoint may have been pruned meanwhile
        client.log_artifact(run_id, str(path), folder)


def latest_tags(run: RunDir) -> dict[str, str]:
    """The tags of a run as its directory stands: run.json and its latest attempt."""
    number = run.latest_attempt()
    return run_tags(run.info(), run.attempt_facts(number) if number else {}, run.path)


@settings()
def sync_run(
    run: RunDir,
    *,
    uri: str | None = None,
    experiment: str = "metadist",
    checkpoints: Sequence[Path] = (),
    tags: Mapping[str, str] | None = None,
) -> str:
    """Send a whole run, again or for the first time, and return its MLflow run id.

    For a run that was offline, whose server was away at the end, or whose driver died. It adds
    nothing that is there already. A run that has finished or failed is closed in MLflow; the
    state of any other is left alone, since somebody may be training it.

    Args:
        uri: the store; see :func:`metadist.track.uris.store_of` if not given.
        experiment: for a run that has no MLflow run yet.
        checkpoints: checkpoint directories to send along.
        tags: for a run that has no MLflow run yet, beside its own.

    Raises:
        TrackingError: no store is named, it does not answer, or the MLflow run was deleted.
        RunError: the run directory is damaged.
    """
    info = run.info()
    known: dict[str, Any] = info.get("mlflow") or {}
    if uri is None and not known:
        raise TrackingError(
            f"{run.path}: it was run without MLflow; name the store to send it to with "
            "--tracking-uri"
        )
    address = store_of(str(known.get("tracking_uri")), uri, run.path.parent.parent, run.path)
    run_id = own_run(
        run,
        address,
        latest_tags(run) | dict(tags or {}),
        experiment=str(known.get("experiment", experiment)),
        run_id=known.get("run_id"),
    )
    client = connect(address)
    with explained(address):
        points = LogReader(run).poll()
        for start in range(0, len(points), BATCH):
            send_points(client, run_id, points[start : start + BATCH])
        status = str(info.get("status", ""))
        if client.get_run(run_id).info.status == STATUS.get(status):
            status = ""  # closed before: its end time stays
        end_time = max((p.time for p in points), default=None)
        for action in closing(client, run_id, run, status, checkpoints, end_time):
            action.run()
    return run_id


def record_summary(
    uri: str,
    experiment: str,
    name: str,
    *,
    key: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Sequence[Path],
    status: str = "finished",
) -> str:
    """Write a summary and return its run id; the run of the same key is written again.

    Args:
        uri: the tracking store.
        name: of the run in MLflow.
        key: what is summed up: one run in the experiment for each key.
        metrics: finite figures.
        files: artifacts; of a folder all its files, in a folder of its name.
        status: ``finished``, ``failed`` or ``killed``.

    Raises:
        TrackingError: the store does not answer within seconds, or refuses.
    """
    from mlflow.entities import Metric

    run_id = start_run(uri, experiment, name, {}, {**tags, "summary": "true"}, key=key)
    now = round(time.time() * 1000)
    points = [Metric(clean_name(metric), value, now, 0) for metric, value in metrics.items()]
    with store_client(uri) as client:
        if points:
            client.log_batch(run_id, metrics=points)
        for path in files:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, STATUS[status])
    return run_id
