"""Runs in MLflow: a mirror of the run directory, which is the record.

Nothing here imports mlflow before it is used.
"""

from metadist.track.experiments import ensure_experiment, search_runs
from metadist.track.ownership import delete_run, own_run
from metadist.track.runs import reopen_run, run_key, run_params, run_tags, start_run
from metadist.track.synchroniser import Synchroniser
from metadist.track.ui import run_ui, ui_command, ui_environment, where_to_look
from metadist.track.upload import record_summary, sync_run
from metadist.track.uris import default_tracking_uri, public_uri, store_of, whole_uri

__all__ = [
    "Synchroniser",
    "default_tracking_uri",
    "delete_run",
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
