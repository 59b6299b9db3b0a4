"""``metadist data list``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from metadist import api
from metadist.cli import options
from metadist.cli.commands.data._text import shape_text, summary

if TYPE_CHECKING:
    from data_pipeline.datasets import DatasetSpec
    from data_pipeline.functions import FunctionSpec


@click.command("list")
@options.data_dir
def list_(data_dir: str | None) -> None:
    """List datasets, function families and what is prepared."""
    from data_pipeline import datasets, episode_sources, functions
    from data_pipeline.prepared import descriptions, find
    from data_pipeline.storage.object_uri import address_of

    _section("Image datasets", datasets.names(), lambda name: _dataset(datasets.load(name).SPEC))
    embedded = "Function families (embedded, need no preparation)"
    _section(embedded, functions.names(), lambda name: _family(functions.load(name).SPEC))
    sources = "Sources of episodes (need no preparation)"
    _section(
        sources, episode_sources.names(), lambda name: [episode_sources.load(name).SPEC.summary]
    )
    root = api.data_directory(data_dir)
    with descriptions(root) as place:
        held = list(find(place))
        click.echo(f"Prepared in {address_of(root)}{'' if held else ': nothing'}")
        options.show(f"  {summary(item, place)}" for item in held)


def _section(title: str, names: Sequence[str], about: Callable[[str], list[str]]) -> None:
    """Parts of one kind; a broken distribution is told of beside the name of what it brings."""
    from data_pipeline.registry import PartError

    rows: list[tuple[str, str]] = []
    for name in names:
        try:
            lines = about(name)
        except PartError as error:
            lines = [str(error)]
        rows += [("" if number else f"  {name}", line) for number, line in enumerate(lines)]
    if rows:
        click.echo(title)
        options.show_rows(rows)


def _dataset(spec: DatasetSpec) -> list[str]:
    if spec.embedded:
        origin = "embedded: makes itself"
    else:
        origin = f"from {spec.homepage}" if spec.homepage else "from your own files"
    first, *rest = spec.splits
    splits = ", ".join([f"{first} (default)", *rest] if rest else [first])
    usual = {**spec.options, **spec.source_options}
    options = ", ".join(f"{key}={value}" for key, value in usual.items())
    return [
        spec.summary,
        f"{shape_text(spec.shape)}; splits: {splits}; {origin}",
        f"licence: {spec.licence}",
        *([f"options: {options}"] if usual else []),
    ]


def _family(spec: FunctionSpec) -> list[str]:
    latent = ", ".join(spec.latent)
    floor = f"mean squared error without the support: at least {spec.floor or 0:.4g}"
    return [
        spec.summary,
        f"{spec.inputs} -> {spec.outputs} dimensions; true parameters: {latent}",
        *([] if spec.floor is None else [floor]),
    ]
