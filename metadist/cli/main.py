"""``metadist``: meta-train few-shot learners, evaluate, compare, report."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

import metadist
from metadist.cli.groups import Group
from metadist.cli.options import say
from metadist.cli.verbosity import listens, shows_tracebacks
from metadist.errors import MetadistError
from metadist.process.home import settle
from metadist.process.signals import HANGING, StopRequest


class _Group(Group):
    """Mistakes of the user end in one line, not in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with StopRequest(handled=False):
                settle()
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            status = getattr(error, "exit_status", 130)
            say("Aborted!")
            _let_go()
            if HANGING.is_set():
                os._exit(status)
            raise click.exceptions.Exit(status) from None
        except Exception as error:
            if shows_tracebacks() or not _explains_itself(error):
                raise
            raise click.ClickException(_one_line(error)) from None


def _explains_itself(error: Exception) -> bool:
    """Whether the message of an error is all that its reader needs."""
    if isinstance(error, BrokenPipeError):
        return False  # nobody reads any more: click ends without a word
    if isinstance(error, MetadistError | OSError):
        return True
    if isinstance(error, ImportError):
        return str(getattr(error, "name", "") or "").startswith("data_pipeline")
    from data_pipeline.errors import DataError

    return isinstance(error, DataError)


def _let_go() -> None:
    """Nothing is left to be written at the end: whoever reads may be gone, and the exit status
    would tell of that and not of how the command has ended."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"{error}; 'metadist doctor' says what is wrong with this installation"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


@click.group(
    cls=_Group,
    package="metadist.cli.commands",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(metadist.__version__, prog_name="metadist")
def main() -> None:
    """Meta-train few-shot learners on one machine or a Ray cluster.

    The same bits for any number of workers; every run in MLflow and in its own directory.
    """


listens(main)

if __name__ == "__main__":
    main()
