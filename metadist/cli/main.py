"""``metadist``: meta-train few-shot learners, evaluate, compare, report."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

import metadist
from data_pipeline.errors import DataError
from metadist.cli.data import data
from metadist.cli.doctor import doctor
from metadist.cli.evaluate import evaluate
from metadist.cli.recipes import recipes
from metadist.cli.report import report
from metadist.cli.train import train
from metadist.cli.ui import sync, ui
from metadist.errors import MetadistError


class _Group(click.Group):
    """Mistakes of the user end in one line, not in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (MetadistError, DataError) as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadist.__version__, prog_name="metadist")
@click.option("--debug", is_flag=True, help="Show tracebacks and more of what happens.")
def main(debug: bool) -> None:
    """Meta-train few-shot learners on one machine or a Ray cluster.

    The same bits for any number of workers; every run in MLflow and in its own directory.
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # Only our own news are worth a line below warnings.
    for name in ("metadist", "data_pipeline"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)


for command in (train, evaluate, report, data, recipes, ui, sync, doctor):
    main.add_command(command)

if __name__ == "__main__":
    main()
