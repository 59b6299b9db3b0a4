"""``metadist check``."""

from __future__ import annotations

from typing import Any

import click

from metadist.cli import options
from metadist.process.console import at_work


@click.command()
@click.argument("plugin")
@options.text(
    "--plugin",
    "MODULE|FILE",
    "Another file with a part that this one uses, as the dataset of a search space.",
    into="plugins",
    multiple=True,
)
@options.text(
    "--set", "K=V", "An option of the part, as first_order=true.", into="settings", multiple=True
)
@options.text("--source", "PATH", "Raw images of a dataset that needs them.")
@options.flag("--traceback", "Show tracebacks of errors in the part's code.")
@options.as_json
def check(settings: tuple[str, ...], traceback: bool, as_json: bool, **arguments: Any) -> None:
    """Hold a part of your own to what such a part promises, on tiny tasks.

    PLUGIN is a file (./toy.py) or a module (my_package.toy) with a learner, network, objective,
    dataset, family of functions or search space; or the name of an installed one (maml). Its code
    is run.

    Ends with exit code 1 if the contract is broken; warnings and notes break nothing.
    """
    from metadist.api.checking import check as look

    with at_work() as say:
        report = look(options=settings, progress=say, **arguments)
    lines = str(report).splitlines()
    if traceback:
        lines[:0] = [line for f in report.findings for line in f.trace.splitlines()]
    options.show(lines, report.to_dict(), as_json)
    if not report.ok:
        raise click.exceptions.Exit(1)
