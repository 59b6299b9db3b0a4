"""The verbs of the command line as functions."""

from metadist.api.common import Plugins, Result, data_directory, runs_directory
from metadist.api.models import adapt, register
from metadist.api.preparing import prepare
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
    "register",
    "report",
    "runs_directory",
    "train",
]
