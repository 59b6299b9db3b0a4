"""``metadist ui`` and ``metadist sync``: the ways to MLflow beside training."""

from __future__ import annotations

import click

from metadist.api import runs_directory
from metadist.cli import options


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Port of the pages on this machine.",
)
@options.tracking_uri
@options.runs_dir
def ui(port: int, tracking_uri: str | None, runs_dir: str) -> None:
    """Open MLflow's pages on the store of these runs, until interrupted.

    The pages can be reached from this machine alone.
    """
    from metadist.track import default_tracking_uri, public_uri, run_ui
    from metadist.track.client import is_server
    from metadist.track.ui import HOST, ui_command

    uri = tracking_uri or default_tracking_uri(runs_directory(runs_dir).parent)
    if is_server(uri):
        options.say("This store is a server already; open it in a browser:")
        click.echo(public_uri(uri))
        return
    ui_command(uri, port=port)  # refuses what cannot be served, before anything is announced
    options.say(f"Serving {public_uri(uri)} in a few seconds; Ctrl-C ends it")
    click.echo(f"http://{HOST}:{port}")
    status = run_ui(uri, port=port)
    if status:
        raise click.ClickException(f"MLflow's server ended with status {status}; see above")


@click.command()
@click.argument("run")
@click.option(
    "--tracking-uri",
    metavar="URI",
    help="MLflow server or store to send to. Default: the one the run was made with.",
)
@click.option(
    "--experiment",
    default="metadist",
    show_default=True,
    help="MLflow experiment, for a run that is in none yet.",
)
@options.runs_dir
def sync(run: str, tracking_uri: str | None, experiment: str, runs_dir: str) -> None:
    """Send RUN's points and artifacts to MLflow.

    For a run that was trained with --offline, or whose server went away. What is there already
    stays single. RUN is a name under the runs directory or a path.
    """
    from metadist.engine import checkpoint
    from metadist.engine.runs import open_run
    from metadist.track import public_uri, sync_run

    directory = open_run(runs_directory(runs_dir), run)
    finished = directory.info().get("status") == "finished"
    newest = checkpoint.newest(directory, directory.recipe().lineage) if finished else None
    final = [checkpoint.directory(directory, newest[0].step)] if newest else []
    run_id = sync_run(directory, uri=tracking_uri, experiment=experiment, checkpoints=final)
    store = public_uri(tracking_uri or directory.info()["mlflow"]["tracking_uri"])
    options.say(f"{directory.name} is in {store}")
    click.echo(run_id)
