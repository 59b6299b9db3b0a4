"""``metadist runs delete``."""

from __future__ import annotations

import json
from typing import Any

import click

from metadist.api import runs_directory
from metadist.cli import completion, options
from metadist.cli.commands.runs import _chosen
from metadist.cli.verbosity import is_quiet
from metadist.errors import RunError
from metadist.process.resources import human_bytes


@click.command()
@click.argument("names", metavar="NAME…", nargs=-1, shell_complete=completion.runs)
@_chosen.filters
@_chosen.since
@options.flag("--yes", "Do not ask.")
@click.option(
    "--mlflow/--no-mlflow",
    default=None,
    help="Delete them in MLflow too. Default: ask; with --yes they stay there.",
)
@options.tracking_uri
@options.runs_dir
@options.as_json
def delete(
    names: tuple[str, ...],
    runs_dir: str,
    tracking_uri: str | None,
    yes: bool,
    mlflow: bool | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Delete runs for good: NAME…, or those that a filter names.

    It shows them and asks. A run that is at work, or that an ensemble, a search or another run
    needs, stays.
    """
    from metadist.report.phrases import plural
    from metadist.runs import checkpoints
    from metadist.runs.inventory import kept_by, named, select
    from metadist.track import delete_run

    if bool(names) == any(wanted.values()):
        raise click.UsageError("NAME… is needed, or --filter or --since")
    root = runs_directory(runs_dir)
    found = named(root, names) if names else select(root, **wanted)
    if reasons := kept_by(root, found):
        raise RunError(
            "nothing was deleted: " + "; ".join(f"{name}: {why}" for name, why in reasons.items())
        )
    tracked = [one.run.name for one in found if one.info.get("mlflow")]
    count = sum(len(checkpoints.steps(one.run)) for one in found)
    if not (yes and is_quiet()):  # whoever is asked is told what about
        _chosen.show(found, err=True)
        size = human_bytes(sum(one.size for one in found))
        click.echo(
            f"{plural(len(found), 'run')}, {plural(count, 'checkpoint')}, {size}; in MLflow: "
            f"{', '.join(tracked) or 'none'}",
            err=True,
        )
    if not found:
        return
    if not yes:
        click.confirm(f"Delete them from {runs_dir}?", abort=True, err=True)
        if tracked and mlflow is None:
            mlflow = click.confirm("Delete them in MLflow too?", err=True)
    there = []
    for one in found:
        # First: the directory says which one it is.
        if mlflow and delete_run(one.run, tracking_uri):
            there.append(one.run.name)
        one.run.store.remove()
    gone = [one.run.name for one in found]
    options.say(f"Deleted {', '.join(gone)}")
    if there:
        options.say("MLflow keeps deleted runs until 'mlflow gc' is given")
    if as_json:
        click.echo(json.dumps({"deleted": gone, "deleted_in_mlflow": there}))
