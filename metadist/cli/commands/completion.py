"""``metadist completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options and names.

    For bash: eval "$(metadist completion bash)" in ~/.bashrc; likewise for zsh. For fish:
    metadist completion fish > ~/.config/fish/completions/metadist.fish
    """
    shells = get_completion_class(shell)
    assert shells is not None
    click.echo(shells(ctx.find_root().command, {}, "metadist", "_METADIST_COMPLETE").source())
