"""``metadist recipes``."""

from __future__ import annotations

import json

import click

from metadist.cli import completion, options
from metadist.recipe.files import builtin_names, recipe_text


@click.command()
@click.argument("name", required=False, shell_complete=completion.builtin_recipes)
@options.flag("--schema", "Print the JSON Schema of all keys of a recipe.")
@options.plugins
def recipes(name: str | None, schema: bool, plugins: tuple[str, ...]) -> None:
    """List the built-in recipes, or print the one called NAME."""
    if schema:
        from metadist import plugins as outside
        from metadist.compute.recipe_schema import recipe_schema

        with outside.use(plugins):
            click.echo(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))
        return
    if name is not None:
        click.echo(recipe_text(name), nl=False)
        return
    options.show_rows([(known, _title(recipe_text(known))) for known in builtin_names()])


def _title(text: str) -> str:
    """What a recipe is, in its second line of comment."""
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    return comments[1] if len(comments) > 1 else ""
