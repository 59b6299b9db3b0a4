"""Addresses of MLflow's pages that show what is looked for."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from metadist.errors import TrackingError
from metadist.track.client import (
    connect,
    default_tracking_uri,
    explain,
    impatient,
    is_server,
    public_uri,
)
from metadist.track.runs import KEY_TAG
from metadist.track.view import VIEW_KEY, offer_view

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: MLflow 3 begins with its pages for language models unless an address says otherwise.
_TRAINING = "workflowType=machine_learning"
_RUNS_LOOKED_AT = 1000


def runs_page(server: str, experiment_id: str) -> str:
    """The table of an experiment's runs, with our columns.

    Args:
        server: its address, as browsers reach it; a user, a password and a query are left out.
    """
    shown = f"viewStateShareKey={VIEW_KEY}&{_TRAINING}"
    return f"{_base(server)}/#/experiments/{experiment_id}/runs?{shown}"


def experiments_page(server: str) -> str:
    """The list of all experiments."""
    return f"{_base(server)}/#/experiments?{_TRAINING}"


def _base(server: str) -> str:
    parts = urlsplit(server)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def experiments(uri: str) -> dict[str, str]:
    """Ids and names of the experiments that hold runs of ours, the one of the newest run first.

    Raises:
        TrackingError: the store cannot be used.
    """
    with impatient():
        client = connect(uri)
        try:
            return _experiments(client)
        except Exception as error:
            raise explain(uri, error) from error


def _experiments(client: MlflowClient) -> dict[str, str]:
    there: dict[str, Any] = {e.experiment_id: e for e in client.search_experiments()}
    newest = client.search_runs(
        list(there),
        f"tags.`{KEY_TAG}` LIKE '%'",
        max_results=_RUNS_LOOKED_AT,
        order_by=["attributes.start_time DESC"],
    )
    found = dict.fromkeys(run.info.experiment_id for run in newest)
    for identity in found:
        offer_view(client, there[identity])
    return {identity: there[identity].name for identity in found}


def pages(uri: str, server: str) -> list[tuple[str, str]]:
    """Names and addresses of what there is to see, the newest first; at least one."""
    found = [(name, runs_page(server, i)) for i, name in experiments(uri).items()]
    return found or [("no run of metadist yet", experiments_page(server))]


def where_to_look(uri: str, run_id: str) -> str:
    """How to see a run beside the others: an address, or the command that serves the pages."""
    if is_server(uri):
        with impatient(), contextlib.suppress(Exception):
            return runs_page(uri, connect(uri).get_run(run_id).info.experiment_id)
        return experiments_page(uri)
    with contextlib.suppress(TrackingError):
        if uri == default_tracking_uri(Path.cwd()):
            return "metadist ui"
    return f"metadist ui --tracking-uri {shlex.quote(public_uri(uri))}"
