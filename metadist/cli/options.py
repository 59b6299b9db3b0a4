"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def data_dir(command: Command) -> Command:
    """``--data-dir``."""
    return click.option(
        "--data-dir",
        metavar="DIR",
        help="Where prepared data live. Default: METADIST_DATA_DIR, else ./data.",
    )(command)


def runs_dir(command: Command) -> Command:
    """``--runs-dir``."""
    return click.option(
        "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Where runs live."
    )(command)


def tracking_uri(command: Command) -> Command:
    """``--tracking-uri``."""
    return click.option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server or store. Default: MLFLOW_TRACKING_URI, else ./mlflow.db.",
    )(command)


def as_json(command: Command) -> Command:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="End with one line of JSON on standard output."
    )(command)


def device(command: Command) -> Command:
    """``--device``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes GPUs where there are any.",
    )(command)


def say(line: str) -> None:
    """A line for people: standard error, so that standard output stays machine-readable."""
    click.echo(line, err=True)
