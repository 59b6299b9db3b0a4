"""Options that several commands share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Whole(click.IntRange):
    """A whole number that may be typed as 1e5 too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        from metadist.overrides import Typed, read_as

        typed = read_as(Typed(value), {int}) if isinstance(value, str) else value
        return super().convert(typed if isinstance(typed, int) else value, param, ctx)


def data_dir(command: Command) -> Command:
    """``--data-dir``."""
    return click.option(
        "--data-dir",
        metavar="DIR|URI",
        help="Where prepared data live: a path or s3://bucket/prefix. Default: METADIST_DATA_DIR, "
        "else ./data.",
    )(command)


def runs_dir(command: Command) -> Command:
    """``--runs-dir``."""
    return click.option(
        "--runs-dir",
        metavar="DIR|URI",
        default="runs",
        show_default=True,
        help="Where runs live: a path or s3://bucket/prefix.",
    )(command)


def tracking_uri(command: Command) -> Command:
    """``--tracking-uri``."""
    return click.option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server or store. Default: MLFLOW_TRACKING_URI, else ./mlflow.db.",
    )(command)


def address(command: Command) -> Command:
    """``--address``."""
    return click.option(
        "--address",
        help="Ray cluster as host:port. Default: RAY_ADDRESS, else a private Ray on this machine.",
    )(command)


def dashboard(command: Command) -> Command:
    """``--address`` of the dashboard, for jobs."""
    return click.option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard, as http://HEAD:8265. Default: RAY_API_SERVER_ADDRESS, else "
        "RAY_ADDRESS.",
    )(command)


def overrides(command: Command) -> Command:
    """``--set``, any number of times."""
    return click.option(
        "--set", "overrides", metavar="K=V", multiple=True, help="Override a key, as inner.lr=0.1."
    )(command)


def offline(command: Command) -> Command:
    """``--offline``."""
    return click.option("--offline", is_flag=True, help="Do without MLflow.")(command)


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
        help="Where to compute; auto takes GPUs where there are any. Which: CUDA_VISIBLE_DEVICES.",
    )(command)


def plugins(command: Command) -> Command:
    """``--plugin``, any number of times."""
    return click.option(
        "--plugin",
        "plugins",
        metavar="MODULE|FILE",
        multiple=True,
        help="Run this code and let a recipe name it, as my_package.toy or ./toy.py: 'toy'.",
    )(command)


def say(line: str) -> None:
    """A line for people: standard error, so that standard output stays machine-readable.

    Where they have gone, with their terminal or the reader of a pipe, nothing else ends with them.
    """
    with contextlib.suppress(OSError):
        click.echo(line, err=True)
