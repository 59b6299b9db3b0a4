"""Options that several commands share."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import click

from metadist.cli.verbosity import is_quiet
from metadist.process.console import visible

Decorator = Callable[[Any], Any]


class Whole(click.IntRange):
    """A whole number that may be typed as 1e5 too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from metadist.overrides import Typed, read_as

        typed = read_as(Typed(value), {int}) if isinstance(value, str) else value
        return super().convert(typed if isinstance(typed, int) else value, param, ctx)


def count(name: str, least: int, help: str, *, large: bool = False, **more: Any) -> Decorator:
    """An option for a whole number, ``least`` or more; a ``large`` one may be typed as 1e5 too."""
    kind = Whole if large else click.IntRange
    return click.option(name, type=kind(min=least), help=help, **more)


def text(name: str, metavar: str, help: str, *, into: str | None = None, **more: Any) -> Decorator:
    """An option for a text, shown as ``metavar``; the command's argument ``into`` gets it."""
    names = [name] if into is None else [name, into]
    return click.option(*names, metavar=metavar, help=help, **more)


def flag(name: str, help: str) -> Decorator:
    """An option that is given or not."""
    return click.option(name, is_flag=True, help=help)


_PLACE = "a path, or s3://bucket/prefix (gs:// and az:// too)"
data_dir = text(
    "--data-dir",
    "DIR|URI",
    f"Where prepared data live: {_PLACE}. Default: METADIST_DATA_DIR, else ./data.",
)
runs_dir = text(
    "--runs-dir", "DIR|URI", f"Where runs live: {_PLACE}.", default="runs", show_default=True
)
tracking_uri = text(
    "--tracking-uri",
    "URI",
    "MLflow server or store. Default: MLFLOW_TRACKING_URI, else ./mlflow.db.",
)
address = click.option(
    "--address",
    help="Ray cluster as host:port. Default: RAY_ADDRESS, else a private Ray on this machine.",
)
dashboard = text(
    "--address",
    "URL",
    "The cluster's dashboard, as http://HEAD:8265. Default: RAY_API_SERVER_ADDRESS, else "
    "RAY_ADDRESS.",
)
overrides = text(
    "--set", "K=V", "Override a key, as inner.lr=0.1.", into="overrides", multiple=True
)
dry_run = flag(
    "--dry-run", "Print the resolved recipe, its sizes and where it would go; make nothing."
)
offline = flag("--offline", "Do without MLflow.")
as_json = click.option(
    "--json", "as_json", is_flag=True, help="End with one line of JSON on standard output."
)
device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where to compute; auto takes GPUs where there are any. Which: CUDA_VISIBLE_DEVICES.",
)
plugins = text(
    "--plugin",
    "MODULE|FILE",
    "Run this code and let a recipe name it, as my_package.toy or ./toy.py: 'toy'.",
    into="plugins",
    multiple=True,
)


def _together(*several: Decorator) -> Decorator:
    """Options as one, in the order in which help shows them."""
    return lambda command: functools.reduce(lambda c, one: one(c), reversed(several), command)


of_a_run = _together(plugins, data_dir, runs_dir, device, as_json)
of_training = _together(offline, plugins, tracking_uri, data_dir, runs_dir, device, as_json)


def say(line: str) -> None:
    """A line for people: standard error, so that standard output stays machine-readable.

    Where they have gone, with their terminal or the reader of a pipe, nothing else ends with them.
    """
    if not is_quiet():
        with contextlib.suppress(OSError):
            # The stream of now: what is painted on a terminal takes it to write above.
            click.echo(visible(line), file=sys.stderr)


def show(lines: Iterable[str], document: object = None, as_json: bool = False) -> None:
    """Print a result: lines for people, and as last line JSON if asked for.

    Args:
        document: what there is in JSON; None if that comes later.
    """
    for line in lines:
        if as_json:
            say(line)
        else:
            click.echo(visible(line))
    if as_json and document is not None:
        click.echo(json.dumps(document, allow_nan=False))


def show_rows(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), *, err: bool = False
) -> None:
    """Print a list in columns; on a terminal, what is too long goes on in its column.

    Args:
        right: columns that are set to the right.
        err: on standard error.
    """
    from metadist.report.text_table import aligned

    terminal = (sys.stderr if err else sys.stdout).isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    for line in aligned(rows, right, rule=False, width=width):
        click.echo(line, err=err)
