"""``metadist recipes``."""

from __future__ import annotations

import click

from metadist.recipe.files import builtin_names, recipe_text


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the built-in recipes, or print the one called NAME."""
    if name is not None:
        click.echo(recipe_text(name), nl=False)
        return
    width = max(map(len, builtin_names()))
    for known in builtin_names():
        comments = [
            line[1:].strip() for line in recipe_text(known).splitlines() if line.startswith("#")
        ]
        click.echo(f"{known:{width}}  {comments[1] if len(comments) > 1 else ''}")
