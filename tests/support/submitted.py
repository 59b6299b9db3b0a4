"""Command lines as ``metadist submit`` reads them, and what comes of them."""

from __future__ import annotations

import shlex
from typing import Any

import click
from click.testing import CliRunner, Result
from dashboard import Dashboard

from metadist.cli.commands import submit as command_group
from metadist.cli.commands.submit import _submitted
from metadist.cli.main import main
from metadist.jobs.command import Command
from metadist.jobs.submit import submit
from metadist.jobs.submitter import Submission, SubmittedJob

LINE = "train sinusoid-5shot-maml --workers 2 --name n --runs-dir /all/runs"
DONE = {"status": "SUCCEEDED", "start_time": 1000, "end_time": 3000, "driver_exit_code": 0}


def as_written(line: str) -> Command:
    """What ``metadist submit`` makes of ``VERB …``."""
    verb, *words = shlex.split(line)
    command = command_group.submit.get_command(click.Context(command_group.submit), verb)
    assert command is not None
    return _submitted.as_written(command, click.Context(command), words)


def failed(**more: Any) -> dict[str, Any]:
    """A job that has failed, as a dashboard describes it."""
    return {"status": "FAILED", "start_time": 1000, "end_time": 3000, "message": "gone", **more}


def run(*arguments: str) -> Result:
    """``metadist submit`` with these arguments."""
    return CliRunner().invoke(main, ["submit", *arguments], prog_name="metadist")


def submitted(there: Dashboard, said: list[str] | None = None, **more: Any) -> SubmittedJob:
    """What comes of submitting LINE."""
    shown: list[str] = []
    request = Submission(as_written(LINE), there.url, ship_code=False, **more)
    return submit(request, (said if said is not None else []).append, shown.append)
