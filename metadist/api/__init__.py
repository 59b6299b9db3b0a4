"""The verbs of the command line as functions."""

from metadist.api.common import Plugins, Result
from metadist.api.models import adapt, register
from metadist.api.preparing import prepare
from metadist.api.results import compare, evaluate, report
from metadist.api.training import train
from metadist.api.tuning import tune
from metadist.driver.directories import data_directory, runs_directory

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
    "tune",
]
