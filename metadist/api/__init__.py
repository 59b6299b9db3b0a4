"""The verbs of the command line: functions to call from a notebook."""

from metadist.api.checking import check
from metadist.api.common import Plugins
from metadist.api.data import prepare, shard
from metadist.api.models import adapt, load, register
from metadist.api.modules import from_module
from metadist.api.prepared import cluster, embed, preview, verify
from metadist.api.result_types import (
    AdaptResult,
    ComparedRun,
    CompareResult,
    EvaluationResult,
    Result,
    Score,
    TrainResult,
    TuneResult,
)
from metadist.api.results import compare, evaluate, report
from metadist.api.training import train
from metadist.api.tuning import tune
from metadist.driver.directories import data_directory, runs_directory

__all__ = [
    "AdaptResult",
    "CompareResult",
    "ComparedRun",
    "EvaluationResult",
    "Plugins",
    "Result",
    "Score",
    "TrainResult",
    "TuneResult",
    "adapt",
    "check",
    "cluster",
    "compare",
    "data_directory",
    "embed",
    "evaluate",
    "from_module",
    "load",
    "prepare",
    "preview",
    "register",
    "report",
    "runs_directory",
    "shard",
    "train",
    "tune",
    "verify",
]
