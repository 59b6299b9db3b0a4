"""Command lines as ``metadist submit`` reads them."""

from __future__ import annotations

import shlex

import click

from metadist.cli.commands.submit import _submitted, submit
from metadist.jobs.command import Command


def as_written(line: str) -> Command:
    """What ``metadist submit`` makes of ``VERB …``."""
    verb, *words = shlex.split(line)
    command = submit.get_command(click.Context(submit), verb)
    assert command is not None
    return _submitted.as_written(command, click.Context(command), words)
