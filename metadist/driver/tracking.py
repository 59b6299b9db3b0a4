"""The MLflow run of a run directory, fed in the background while the run goes on."""

from __future__ import annotations

import logging
import shlex
from contextlib import suppress
from functools import partial

from metadist.driver.request import RunRequest
from metadist.errors import SchemaError
from metadist.process.announce import Announce
from metadist.runs.run_dir import RunDir
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

log = logging.getLogger(__name__)


def check_tracking(request: RunRequest) -> None:
    """See that a new run can be tracked, before anything exists that would have to be cleaned up.

    Raises:
        TrackingError: the server cannot be reached, or refuses.
    """
    store = store_for(request)
    if not request.offline and request.resume is None:
        with suppress(SchemaError):  # the run can be sent later
            ensure_experiment(store, request.experiment)


def store_for(request: RunRequest) -> str:
    """The tracking store that a request means."""
    if request.tracking_uri:  # an empty one is none: that of a variable that is not set
        return whole_uri(request.tracking_uri)
    return default_tracking_uri(request.runs_dir.parent)


def open_tracking(request: RunRequest, run: RunDir, announce: Announce) -> Synchroniser | None:
    """The MLflow run, new or as it was, and what feeds it; None: offline."""
    if request.offline:
        return None
    try:
        return _synchroniser(request, run)
    except SchemaError as error:
        log.warning(
            "%s. Training goes on without it; then: metadist sync %s --tracking-uri %s",
            *(error, shlex.quote(str(run.path)), public_uri(store_for(request))),
        )
        return None
    except BaseException:
        announce(f"{run.name} has not begun; go on with --resume {run.name}")
        raise


def _synchroniser(request: RunRequest, run: RunDir) -> Synchroniser:
    info, uri = run.info(), store_for(request)
    tags = run_tags(info, {"world_size": max(request.workers.low, 1)}, run.path)
    tags |= request.tags
    known, asked = info.get("mlflow") or {}, uri if request.tracking_uri else None
    if known and asked is not None and public_uri(asked) != whole_uri(known["tracking_uri"]):
        known = {}  # that store shall have the run too, with every point
    if known:
        uri = store_of(known["tracking_uri"], asked, request.runs_dir.parent, run.path)
    own = partial(own_run, run, uri, tags, experiment=known.get("experiment", request.experiment))
    run_id = own(run_id=known.get("run_id"), starts=True)
    reopen_run(uri, run_id, run_params(run.recipe()), tags)
    return Synchroniser(run, uri, run_id, again=lambda lost: own(run_id=lost)).start()
