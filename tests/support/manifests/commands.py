"""The command line that a RayJob runs, read by metadist's own parser."""

from __future__ import annotations

import shlex
from typing import Any

import click
from manifests.documents import Manifest

from metadist.cli.main import main


class CommandError(Exception):
    """metadist would refuse the command line."""


def command_of(job: Manifest) -> tuple[str, dict[str, Any]]:
    """The sub-command of a job's entrypoint and its parameters.

    Raises:
        CommandError: it is none of metadist's, or an option is unknown or has a wrong value.
    """
    words = shlex.split(str((job.body.get("spec") or {}).get("entrypoint")))
    if len(words) < 2 or words[0] != "metadist":
        raise CommandError(f"the entrypoint is no command of metadist: {' '.join(words)}")
    command = main.get_command(click.Context(main), words[1])
    if command is None:
        raise CommandError(f"metadist has no command {words[1]}")
    try:
        context = command.make_context(words[1], words[2:])
    except (click.ClickException, click.exceptions.Exit) as error:
        raise CommandError(f"metadist {words[1]}: {getattr(error, 'message', error)}") from error
    return words[1], context.params
