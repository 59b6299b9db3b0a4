"""The verbs of the command line: functions to call from a notebook."""

from metadist.api.common import Plugins, Result, data_directory, runs_directory
from metadist.api.data import prepare, shard
from metadist.api.models import adapt, register
from metadist.api.prepared import preview, verify
from metadist.api.results import compare, evaluate, report
from metadist.api.training import train

__all__ = [
    "Plugins",
    "Result",
    "adapt",
    "compare",
    "data_directory",
    "evaluate",
    "prepare",
    "preview",
    "register",
    "report",
    "runs_directory",
    "shard",
    "train",
    "verify",
]
