"""``metadist doctor``: what this machine can do, and what is missing.

It has to work where others cannot: ``python -m metadist.cli.commands.doctor`` starts it without the
other commands.
"""

from __future__ import annotations

from dataclasses import asdict

import click

from metadist.cli import options
from metadist.doctor import examine


@click.command()
@options.data_dir
@options.runs_dir
@options.tracking_uri
@options.as_json
def doctor(data_dir: str | None, runs_dir: str, tracking_uri: str | None, as_json: bool) -> None:
    """Say what this machine can do, what is missing and how to mend it.

    Ends with exit code 1 if something is missing without which runs cannot work.
    """
    checks = []
    for check in examine(data_dir, runs_dir, tracking_uri):
        options.show([str(check)], as_json=as_json)
        checks.append(check)
    failed = [check.name for check in checks if check.status == "FAIL"]
    options.show((), {"ok": not failed, "checks": [asdict(c) for c in checks]}, as_json)
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}"
        )


if __name__ == "__main__":
    doctor()
