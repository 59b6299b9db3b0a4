"""Runs in MLflow: a mirror of the run directory, which is the record.

Nothing here imports mlflow before it is used.
"""

from metadist.track.client import HIDDEN, default_tracking_uri, public_uri, whole_uri
from metadist.track.owner import own_run
from metadist.track.pages import where_to_look
from metadist.track.recorded import store_of
from metadist.track.runs import (
    ensure_experiment,
    reopen_run,
    run_key,
    run_params,
    run_tags,
    start_run,
)
from metadist.track.search import Found, search_runs
from metadist.track.send import sync_run
from metadist.track.summary import record_summary
from metadist.track.sync import Synchroniser
from metadist.track.ui import run_ui, ui_command, ui_environment

__all__ = [
    "HIDDEN",
    "Found",
    "Synchroniser",
    "default_tracking_uri",
    "ensure_experiment",
    "own_run",
    "public_uri",
    "record_summary",
    "reopen_run",
    "run_key",
    "run_params",
    "run_tags",
    "run_ui",
    "search_runs",
    "start_run",
    "store_of",
    "sync_run",
    "ui_command",
    "ui_environment",
    "where_to_look",
    "whole_uri",
]
