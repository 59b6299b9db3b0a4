"""``metadist data list``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from metadist import api
from metadist.cli import options
from metadist.cli.commands.data._text import shape_text, summary

if TYPE_CHECKING:
    from data_pipeline.datasets import DatasetSpec
    from data_pipeline.functions import FunctionSpec

Found = TypeVar("Found")


@click.command("list")
@options.data_dir
def list_(data_dir: str | None) -> None:
    """List datasets, function families and what is prepared."""
    from data_pipeline import datasets, episode_sources, functions
    from data_pipeline.prepared import descriptions, find
    from data_pipeline.storage.object_uri import address_of

    click.echo("Image datasets")
    for name in datasets.names():
        if module := _listed(datasets.load, name):
            _dataset(module.SPEC)
    click.echo("Function families (embedded, need no preparation)")
    for name in functions.names():
        if family := _listed(functions.load, name):
            _family(family.SPEC)
    if names := episode_sources.names():
        click.echo("Sources of episodes (need no preparation)")
        for name in names:
            if source := _listed(episode_sources.load, name):
                _entry(name, source.SPEC.summary)
    root = api.data_directory(data_dir)
    with descriptions(root) as place:
        held = list(find(place))
        click.echo(f"Prepared in {address_of(root)}{'' if held else ': nothing'}")
        for item in held:
            click.echo(f"  {summary(item, place)}")


def _dataset(spec: DatasetSpec) -> None:
    if spec.embedded:
        origin = "embedded: makes itself"
    else:
        origin = f"from {spec.homepage}" if spec.homepage else "from your own files"
    first, *rest = spec.splits
    splits = ", ".join([f"{first} (default)", *rest] if rest else [first])
    _entry(spec.name, spec.summary)
    _entry("", f"{shape_text(spec.shape)}; splits: {splits}; {origin}")
    _entry("", f"licence: {spec.licence}")
    if usual := {**spec.options, **spec.source_options}:
        _entry("", f"options: {', '.join(f'{key}={value}' for key, value in usual.items())}")


def _family(spec: FunctionSpec) -> None:
    latent = ", ".join(spec.latent)
    _entry(spec.name, spec.summary)
    _entry("", f"{spec.inputs} -> {spec.outputs} dimensions; true parameters: {latent}")
    if spec.floor is not None:
        _entry("", f"mean squared error without the support: at least {spec.floor:.4g}")


def _entry(name: str, text: str) -> None:
    click.echo(f"  {name:18} {text}")


def _listed(load: Callable[[str], Found], name: str) -> Found | None:
    """A part; None, said in its line, if the distribution it comes from is broken."""
    from data_pipeline.registry import PartError

    try:
        return load(name)
    except PartError as error:
        _entry(name, str(error))
        return None
