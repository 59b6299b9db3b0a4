"""``metadist ui``."""

from __future__ import annotations

import os
import sys
import webbrowser

import click

from metadist.api import runs_directory
from metadist.cli import options


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    help="Port of the pages on this machine.",
)
@click.option(
    "--open/--no-open",
    "browse",
    default=None,
    help="Open a browser. Default: where there is a screen, and standard output is a terminal.",
)
@options.tracking_uri
@options.runs_dir
def ui(port: int, browse: bool | None, tracking_uri: str | None, runs_dir: str) -> None:
    """Open MLflow's pages on the store of these runs, until interrupted.

    Prints the address of the runs table of each experiment that has runs of metadist, the one of
    the newest run first. The pages can be reached from this machine alone.
    """
    from metadist.track import default_tracking_uri, public_uri, run_ui
    from metadist.track.ui import HOST, ui_command
    from metadist.track.uris import is_server

    uri = tracking_uri or default_tracking_uri(runs_directory(runs_dir).parent)
    # A browser in the terminal would be in the way.
    screen = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    look = screen and sys.stdout.isatty() if browse is None else browse
    if is_server(uri):
        options.say("This store is a server already; open it in a browser:")
        address = _print_pages(uri, uri)
        if look:
            webbrowser.open(address)
        return
    ui_command(uri, port=port)  # refuses what cannot be served, before anything is announced
    options.say(f"Serving {public_uri(uri)} in a few seconds; Ctrl-C ends it")
    address = _print_pages(uri, f"http://{HOST}:{port}")
    status = run_ui(uri, port=port, ready=(lambda: webbrowser.open(address)) if look else None)
    if status:
        raise click.ClickException(f"MLflow's server ended with status {status}; see above")


def _print_pages(uri: str, server: str) -> str:
    """Print where to look, the names on standard error; the first address."""
    from metadist.errors import TrackingError
    from metadist.track.ui import experiments_page, pages

    try:
        found = pages(uri, server)
    except TrackingError as error:  # a browser may reach what this machine does not
        options.say(f"Its experiments are not known here: {error}")
        found = [("", experiments_page(server))]
    for name, address in found:
        if len(found) > 1:
            options.say(f"{name}:")
        click.echo(address)
    return found[0][1]
