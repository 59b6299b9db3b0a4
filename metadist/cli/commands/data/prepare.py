"""``metadist data prepare``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from metadist import api
from metadist.cli import completion, options
from metadist.cli.commands.data._text import shape_text
from metadist.process.console import at_work

if TYPE_CHECKING:
    from data_pipeline.datasets import DatasetSpec, Option
    from data_pipeline.store.class_store import ClassStore


@click.command()
@click.argument("name", shell_complete=completion.datasets)
@options.text("--source", "PATH", "Folder or file that holds the images.")
@options.text("--split", "SPLIT", "Named division of the classes.", default="", show_default=False)
@options.text(
    "--name",
    "STORE",
    "Name of the store. Default: NAME-SPLIT.",
    into="store",
    default="",
    show_default=False,
)
@options.text(
    "--option",
    "K=V",
    "Option of the dataset, as size=84; see 'metadist data list'.",
    into="given",
    multiple=True,
)
@options.text(
    "--attributes",
    "FILE",
    "Parquet file of attributes of the classes: class_name, attribute, value.",
)
@options.flag("--download", "Fetch the images from their home first.")
@options.flag(
    "--follow-links", "Let links lead out of the source, as in data sets of Hugging Face or DVC."
)
@options.flag("--replace", "Make it anew even if it is there.")
@options.flag(
    "--skip-damaged",
    "Go on without images that cannot be decoded; the store's description names them.",
)
@options.plugins
@options.data_dir
def prepare(
    name: str, store: str, given: tuple[str, ...], plugins: tuple[str, ...], **arguments: Any
) -> None:
    """Turn the images of dataset NAME into a class store.

    It is made once; runs read it from the data directory. Done again, it compares the contents of
    the source with what the store was made from: images that have changed are never passed over.
    """
    from data_pipeline import datasets, functions
    from metadist.plugins import use

    if arguments["source"] is not None and arguments["download"]:
        raise click.UsageError("--source and --download: the images come from one of them")
    made_anew = False

    def progress(images: int, class_name: str) -> None:
        nonlocal made_anew
        made_anew = True
        tell(f"Preparing {name}: {images} images, {class_name}")

    with use(plugins), at_work() as tell:
        if name in functions.names():
            click.echo(f"{name} is a family of functions: it needs no preparation")
            return
        chosen = _options(datasets.load(name).SPEC, given)
        made = api.prepare(
            name,
            name=store,
            options=chosen,
            announce=options.say,
            progress=progress,
            **arguments,
        )
        usual = datasets.load(name).SPEC.options
    _show(made, usual, "is prepared" if made_anew else "was there already")


def _options(spec: DatasetSpec, given: tuple[str, ...]) -> dict[str, Option]:
    """``K=V`` strings as options; the type is that of the default."""
    from data_pipeline.errors import DataError
    from metadist.overrides import Typed, read_as

    usual = {**spec.options, **spec.source_options}
    wanted: dict[type, str] = {bool: "true or false", int: "a whole number"}
    parsed: dict[str, Option] = {}
    for text in given:
        key, equals, raw = (piece.strip() for piece in text.partition("="))
        if not equals or not key:
            raise DataError(f"--option needs key=value (as in size=84), got {text!r}")
        parsed[key] = raw
        kind: type = type(usual.get(key))
        if kind in wanted:
            value: Option = read_as(Typed(raw), {kind})
            if not isinstance(value, kind):
                raise DataError(f"--option {key}: {wanted[kind]} is needed, got {raw!r}")
            parsed[key] = value
    return parsed


def _show(store: ClassStore, usual: Mapping[str, Option], what: str) -> None:
    from data_pipeline.storage.object_uri import address_of

    images = sum(len(part.images) for part in store.parts.values())
    split = f", split {store.split}" if store.split else ""
    counts = ", ".join(
        f"{part} {len(held.class_names)} classes ({len(held.images)} images)"
        for part, held in store.parts.items()
    )
    given = ", ".join(f"{k}={v}" for k, v in store.options.items() if v != usual.get(k))
    options.show(
        [
            f"{store.dataset}{split} {what} in {address_of(store.root)}",
            f"  {images} images of {shape_text(store.shape)}: {counts}",
            *([f"  options: {given}"] if given else []),
            *(f"  {key}: {value}" for key, value in store.description.items()),
            f"  licence: {store.licence}",
            f"  digest: {store.digest}",
        ]
    )
