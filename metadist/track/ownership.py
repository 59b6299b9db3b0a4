"""Which run directory an MLflow run belongs to: one, and no copy of it.

Every start leaves a new claim in run.json and in a tag of the MLflow run. A directory that was
copied, cloned or put back from a backup has an older one as soon as another has started.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from data_pipeline.errors import DataError
from data_pipeline.storage.object_uri import address_of, local_path
from metadist.errors import MetadistError
from metadist.runs.log import LogReader
from metadist.runs.run_dir import RunDir
from metadist.track.client import GONE, gone_error, store_client
from metadist.track.client import run_state as state_of
from metadist.track.experiments import DIRECTORY_TAG, experiment_of
from metadist.track.runs import clean_name, find_run, run_key, run_params, set_tags, start_run
from metadist.track.uris import public_uri, store_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

#: The tag of an MLflow run that holds the claim of the directory that has it.
CLAIM_TAG = "metadist.claim"


def own_run(
    run: RunDir,
    uri: str,
    tags: Mapping[str, str],
    *,
    experiment: str,
    run_id: str | None = None,
    starts: bool = False,
) -> str:
    """The id of the MLflow run of a directory: the one it has, else a new one.

    A copy whose original has the MLflow run gets one of its own, and a warning says so. A
    directory that was moved keeps it.

    Args:
        uri: the tracking store.
        tags: for a new one; see :func:`metadist.track.runs.run_tags`.
        experiment: for a new one.
        run_id: the one that run.json names; looked for by its key if there is none.
        starts: whether points are to be added now, so that copies made before have it no more.

    Raises:
        TrackingError: the store does not answer within seconds or refuses, or the run was deleted.
    """
    why = ""
    with run.store.locked("tracking"):  # two drivers of one directory must not make two
        with store_client(uri) as client:
            if run_id is None:
                experiment_id = experiment_of(client, uri, experiment)
                run_id = find_run(client, experiment_id, run_key(run.info()))
            if run_id is not None:
                why = foreign(client, run, run_id)
            if why:
                _set_apart(run, run_id)
            if run_id is None or why:
                run_id = _new(run, uri, tags, experiment)
            elif starts:
                set_tags(client, run_id, _claim(run))
        if (run.info().get("mlflow") or {}).get("run_id") != run_id:
            shown = public_uri(uri)  # a password must not be written down
            run.update(mlflow={"tracking_uri": shown, "experiment": experiment, "run_id": run_id})
    if why:
        here = address_of(run.path)
        log.warning("%s: %s; it gets one of its own, %s, with every step", here, why, run_id)
    return run_id


def foreign(client: MlflowClient, run: RunDir, run_id: str) -> str:
    """Why an MLflow run is not, or no more, that of a directory; empty if it is.

    Raises:
        TrackingError: it was deleted.
    """
    if (state := state_of(client, run_id)) in GONE:
        raise gone_error(client.tracking_uri, run_id, state)
    there = client.get_run(run_id)
    directory = there.data.tags.get(DIRECTORY_TAG, "")
    if directory and _has(directory, run, run_id):
        return f"it is a copy of {directory}, which has the MLflow run {run_id}"
    if not _claimed(there, run):
        return f"a copy of it has gone on with the MLflow run {run_id}"
    # In an object store the last seconds of a log are lost with their node.
    if not run.store.shared and _ahead(there, run):
        return f"the MLflow run {run_id} has later steps, of a copy or from before a backup"
    return ""


def delete_run(run: RunDir, uri: str | None = None) -> bool:
    """Delete the MLflow run of a directory; MLflow keeps it among its deleted ones.

    Args:
        uri: of the store; see :func:`metadist.track.uris.store_of` if None.

    Returns:
        False where there is none, or it is another directory's, or it is deleted already.

    Raises:
        TrackingError: the store is not named, does not answer or refuses.
    """
    known = run.info().get("mlflow") or {}
    if not known:
        return False
    address = store_of(str(known["tracking_uri"]), uri, run.path.parent.parent, run.path)
    with store_client(address) as client:
        run_id = str(known["run_id"])
        if state_of(client, run_id) in GONE or foreign(client, run, run_id):
            return False
        client.delete_run(run_id)
    return True


def holds(client: MlflowClient, run: RunDir, run_id: str) -> bool:
    """Whether no copy has taken an MLflow run from a directory since it started."""
    there = client.get_run(run_id)
    if _claimed(there, run):
        return True
    run.store.pull_info()  # its new driver may be on another node
    return _claimed(there, run)


def _claimed(there: Run, run: RunDir) -> bool:
    return there.data.tags.get(CLAIM_TAG) in (None, *run.info().get("claims", ()))


def _claim(run: RunDir) -> dict[str, str]:
    """Tags of a new claim; in run.json first, so that a crash in between gives nothing away."""
    claim = uuid.uuid4().hex[:12]
    run.update(claims=[*run.info().get("claims", ()), claim])
    return {CLAIM_TAG: claim, DIRECTORY_TAG: address_of(run.path)}


def _has(directory: str, run: RunDir, run_id: str) -> bool:
    """Whether another directory is there that has an MLflow run; one that cannot be read has."""
    if directory == address_of(run.path):
        return False
    try:
        other = RunDir(local_path(directory))
        if not other.store.pull_info() or other.path.samefile(run.path):
            return False  # moved, or the same under another name
        info = other.info()
        known = (info.get("mlflow") or {}).get("run_id")
        return run_key(info) == run_key(run.info()) and known in (None, run_id)
    except (MetadistError, DataError, OSError):
        return True


def _ahead(there: Run, run: RunDir) -> bool:
    """Whether an MLflow run has points of training that a log has not."""
    latest = {
        (m.key, m.step, m.timestamp)
        for m in there.data.to_proto().metrics
        if m.key.startswith("train/")
    }
    return not latest <= {(clean_name(p.metric), p.step, p.time) for p in LogReader(run).poll()}


def _set_apart(run: RunDir, lost: str | None) -> None:
    """Give a copy a name and a key of its own; once, if it is begun again."""
    info = run.info()
    if (info.get("copy") or {}).get("mlflow_run") != lost:
        name = f"{run.name}-copy" if run.name == info["name"] else run.name
        apart = {"id": uuid.uuid4().hex[:12], "mlflow_run": lost}
        run.update(name=name, copy=apart, mlflow=None)


def _new(run: RunDir, uri: str, tags: Mapping[str, str], experiment: str) -> str:
    tags, info = {**tags, **_claim(run)}, run.info()
    created = datetime.fromisoformat(info["created"]).timestamp()
    return start_run(
        uri,
        experiment,
        info["name"],
        run_params(run.recipe()),
        tags,
        key=run_key(info),
        start_time=round(created * 1000),
    )
