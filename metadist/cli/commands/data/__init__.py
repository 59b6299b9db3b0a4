"""``metadist data``: prepare, shard, check and look at data."""

from __future__ import annotations

import click

from metadist.cli.groups import Group


@click.group(cls=Group, package=__name__)
def data() -> None:
    """Prepare, shard, check and look at data."""
