"""``metadist sync``."""

from __future__ import annotations

import shlex

import click

from metadist.api import runs_directory
from metadist.cli import completion, options


@click.command()
@click.argument("run", shell_complete=completion.runs)
@options.text(
    "--tracking-uri",
    "URI",
    "MLflow server or store to send to. Default: the one the run was made with.",
)
@click.option(
    "--experiment",
    default="metadist",
    help="MLflow experiment, for a run that is in none yet.",
)
@options.flag("--tensorboard", "Write RUN's event file for TensorBoard anew instead.")
@options.runs_dir
def sync(
    run: str, tracking_uri: str | None, experiment: str, tensorboard: bool, runs_dir: str
) -> None:
    """Send RUN's points and artifacts to MLflow.

    For a run that was trained with --offline, or whose server went away. What is there already
    stays single. RUN is a name under the runs directory or a path.
    """
    from metadist.runs import checkpoints
    from metadist.runs.listing import open_run
    from metadist.track import public_uri, sync_run, where_to_look
    from metadist.track.tensorboard import write_events

    directory = open_run(runs_directory(runs_dir), run)
    if tensorboard:
        folder = write_events(directory)
        options.say(f"Look at it with: tensorboard --logdir {shlex.quote(str(folder))}")
        click.echo(folder)
        return
    finished = directory.info().get("status") == "finished"
    newest = checkpoints.newest(directory, directory.recipe().lineage) if finished else None
    final = [checkpoints.directory(directory, newest[0].step)] if newest else []
    run_id = sync_run(directory, uri=tracking_uri, experiment=experiment, checkpoints=final)
    uri = tracking_uri or directory.info()["mlflow"]["tracking_uri"]
    options.say(f"{directory.name} is in {public_uri(uri)}: {where_to_look(uri, run_id)}")
    click.echo(run_id)
