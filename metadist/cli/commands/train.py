"""``metadist train``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import completion, options
from metadist.cli.verbosity import is_quiet
from metadist.errors import MetadistError


class WorkersType(click.ParamType[int | str]):
    """A number of workers, or the fewest and the most."""

    name = "N|MIN:MAX"

    def convert(
        self, value: int | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """As it was given, if it is one of these."""
        from metadist.executors.world_size import WorldSize

        try:
            size = WorldSize.of(value)
        except MetadistError as error:
            self.fail(str(error).removeprefix("--workers "), param, ctx)
        return value if size.elastic else size.low


@click.command()
@click.argument("recipe", required=False, shell_complete=completion.recipes)
@click.option("--name", help="Name of the run. Default: recipe and time.")
@click.option(
    "--workers",
    type=WorkersType(),
    default=0,
    help="Ray workers; 0 trains in this process. MIN:MAX takes what the cluster has.",
)
@options.address
@options.overrides
@options.text(
    "--resume",
    "RUN|auto",
    "Continue a run; auto continues the run of this name or recipe, or starts one.",
    shell_complete=completion.runs_or_auto,
)
@click.option("--experiment", default="metadist", help="MLflow experiment.")
@options.dry_run
@options.flag("--tensorboard", "Write an event file too: RUN/tensorboard.")
@options.flag("--profile", "Record some outer steps: RUN/profile.")
@options.of_training
def train(as_json: bool, dry_run: bool, **arguments: Any) -> None:
    """Meta-train RECIPE, evaluate it on unseen classes and write a report.

    RECIPE is the name of a built-in recipe (see 'metadist recipes') or a TOML file. A run that goes
    on (--resume RUN) has its own.
    """
    if arguments["recipe"] is None and arguments["resume"] is None:
        raise click.UsageError("RECIPE is needed (see 'metadist recipes'), or --resume RUN")
    if arguments["address"] and not arguments["workers"]:
        raise click.UsageError("--address needs --workers: how many of the cluster's workers?")
    result: Any
    if dry_run:
        result = api.training.dry_run(announce=options.say, **arguments)
    else:
        result = api.train(announce=options.say, progress=not is_quiet(), **arguments)
    options.show(result.lines(), result.to_dict(), as_json)
