"""``metadist submit``: a command line as a job of a Ray cluster."""

from __future__ import annotations

from typing import Any

import click

from metadist.cli import options
from metadist.cli.commands.submit._submitted import Submitted
from metadist.cli.groups import Group, load

_SUBMITTED = ("evaluate", "reproduce", "train", "tune")


class _Group(Group):
    """Commands that are submitted, beside commands about what was submitted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those to submit first."""
        return [*_SUBMITTED, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _SUBMITTED:
            return super().get_command(ctx, cmd_name)
        return Submitted(load("metadist.cli.commands", cmd_name))


@click.group(
    cls=_Group,
    package=__name__,
    subcommand_metavar="[--] train|tune|evaluate|reproduce …  or  status|logs|stop|list",
)
@options.dashboard
@options.count(
    "--retries", 0, "Submit again so many times if the driver or the head dies.", default=0
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=False,
    help="Follow the job to its end. Default: yes.",
)
@click.option(
    "--ship-code/--no-ship-code",
    default=None,
    help="Send this metadist along. Default: if it is a checkout that is being worked on.",
)
@options.text(
    "--python",
    "PATH",
    "Interpreter on the cluster, if it is not first on the PATH of its nodes.",
    default="python",
)
@options.flag("--any-version", "Go on where the cluster's Ray or Python is another.")
@click.option(
    "--cpus",
    type=click.FloatRange(min=0),
    help="CPUs that the driver reserves. Default: 1 if it computes itself, 0 if workers do.",
)
@click.option(
    "--gpus",
    type=click.FloatRange(min=0),
    default=0.0,
    help="GPUs likewise, if it computes itself.",
)
@options.as_json
def submit(**arguments: Any) -> None:
    """Run a command line as a job of a Ray cluster, and follow it.

    \b
        metadist submit --address http://HEAD:8265 -- train RECIPE --workers 4 --runs-dir /all/runs
        metadist submit status|logs|stop JOB|RUN
        metadist submit list

    The job takes along the recipes and plugins that its command line names; data stay where they
    are. The run has a name from the start: the same command line submitted again continues it.

    The exit status is the job's: 0, its driver's if it failed, 143 if it was stopped; 130 after
    Ctrl-C, which leaves the job running.
    """
