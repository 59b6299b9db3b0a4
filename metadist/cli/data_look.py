"""``metadist data verify`` and ``metadist data preview``: look at what is prepared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from data_pipeline.errors import DataError, MissingData
from metadist.cli import options
from metadist.cli.options import human_bytes

if TYPE_CHECKING:
    from data_pipeline.datasets import Part
    from data_pipeline.shards.verify import Finding

#: Characters of a digest that are shown where it only has to be recognised.
DIGEST_SHOWN = 12


@click.command()
@click.argument("what", metavar="[PATH|NAME]", required=False)
@click.option(
    "--deep", is_flag=True, help="Look at each image and draw each episode again; takes longer."
)
@options.data_dir
def verify(what: str | None, deep: bool, data_dir: str | None) -> None:
    """Check that prepared data and shards are what was written.

    NAME is that of a store under the data directory or of a dataset; without it, everything
    there is checked. Every finding is listed; the exit code is 1 if there is one.
    """
    from data_pipeline.storage.objects import object_place
    from metadist.api import data_directory

    root = data_directory(data_dir)
    bad = _verify_objects(what, root) if object_place(root) else []
    if bad:
        raise click.ClickException(
            f"{len(bad)} objects are not as they were written: prepare or shard them anew with "
            "--replace"
        )
    folders = _folders(what, root)
    items = [item for folder in folders for item in prepared_items(folder)]
    if not items:
        raise MissingData(
            f"{what or root}: no class store and no shards there; make some with "
            "'metadist data prepare', or name their directory with --data-dir"
        )
    damaged = 0
    for item in items:
        findings = _findings(item, deep)
        for finding in findings:
            click.echo(f"BAD  {finding}")
        if not findings:
            click.echo(f"OK   {described(item, root)}")
        damaged += bool(findings)
    for left in sorted(path for folder in folders for path in folder.rglob(".partial-*")):
        click.echo(f"note {left}: of a writer that is at work or was interrupted; nobody reads it")
    if damaged:
        raise click.ClickException(
            f"{damaged} of {len(items)} are not as they were written: prepare or shard them anew "
            "with --replace"
        )


def _verify_objects(what: str | None, root: Path) -> list[str]:
    """Read what an object store holds; where all is well, bring the working copy up to date."""
    from data_pipeline.storage.object_uri import address_of
    from data_pipeline.storage.working_copies import damaged_objects, published, pull

    bad = []
    for path in published(root):
        name = path.relative_to(root).parts[0]
        if what is not None and what != name and not name.startswith(f"{what}-"):
            continue
        if problems := list(damaged_objects(path)):
            bad += problems
            continue
        click.echo(f"OK   {address_of(path)}")
        pull(path)
    for problem in bad:
        click.echo(f"BAD  {problem}")
    return bad


@click.command()
@click.argument("what", metavar="NAME_OR_PATH")
@click.option(
    "--part",
    type=click.Choice(["train", "val", "test"]),
    default="train",
    show_default=True,
    help="Which classes.",
)
@click.option("--out", metavar="FILE", help="Where the picture goes. Default: ./NAME-PART.png.")
@options.data_dir
def preview(what: str, part: Part, out: str | None, data_dir: str | None) -> None:
    """Draw a contact sheet of a class store and print its statistics.

    NAME is that of a store under the data directory or of a dataset.
    """
    from data_pipeline.storage.typed_paths import typed_path
    from data_pipeline.store.class_store import open_store
    from data_pipeline.store.preview import contact_sheet, nearest_neighbour_accuracy, statistics
    from metadist.api import data_directory
    from metadist.statistics.classes import few_classes
    from metadist.statistics.format import mean_ci

    store = open_store(_one_store(what, data_directory(data_dir)))
    path = typed_path(out or f"{store.root.parent.name}-{part}.png").absolute()
    try:
        contact_sheet(store, part, path)
    except OSError as error:
        raise click.ClickException(
            f"{path}: cannot be written ({error.strerror}); name another file with --out"
        ) from None
    figures = statistics(store)
    click.echo(f"{'':26}" + "".join(f"{name:>12}" for name in figures))
    for key in figures[part]:
        values = "".join(f"{held[key]:>12.6g}" for held in figures.values())
        click.echo(f"{key.replace('_', ' '):26}{values}")
    with contextlib.suppress(DataError):  # too few classes to tell five apart
        mean, half = nearest_neighbour_accuracy(store, part)
        click.echo(
            f"comparing raw pixels gets {mean_ci(mean, half, '{:.1f}', '%')} of 5-way 1-shot "
            f"{part} episodes right, of {figures[part]['classes']:g} classes"
        )
        if few := few_classes(int(figures[part]["classes"]), 5, part):
            click.echo(f"Warning: {few}")
    click.echo(str(path))


def _one_store(what: str, root: Path) -> Path:
    """The class store that NAME_OR_PATH means; embedded data are made if they are not there.

    Raises:
        DataError: none, or several.
    """
    from data_pipeline import datasets, functions
    from data_pipeline.store.class_store import build_store

    if what in functions.names():
        raise DataError(f"{what} is a family of functions: a preview needs images")
    try:
        folders = _folders(what, root)
    except MissingData:
        if what not in datasets.names() or not datasets.load(what).SPEC.embedded:
            raise
        options.say(f"Making {what} in {root}")
        return build_store(what, root).root
    found = [
        item.path for folder in folders for item in prepared_items(folder) if item.kind == "store"
    ]
    if not found:
        raise MissingData(f"{what}: no class store there; make one with 'metadist data prepare'")
    if len(found) > 1:
        raise DataError(
            f"{what}: one class store is needed, there are {', '.join(str(p) for p in found)}"
        )
    return found[0]


@dataclass(frozen=True)
class Item:
    """A class store or a shard set.

    Attributes:
        path: its directory.
        store: the class store beside a shard set, if there is one.
    """

    kind: Literal["store", "shards"]
    path: Path
    store: Path | None = None


def prepared_items(folder: Path) -> Iterator[Item]:
    """Class stores and shard sets at or below a folder, also those that lack their description."""
    from data_pipeline.shards.layout import DATASET_FILE
    from data_pipeline.store.files import STORE_FILE

    if (folder / STORE_FILE).is_file():
        yield Item("store", folder)
        return
    if (folder / DATASET_FILE).is_file():
        beside = folder.parent.parent / "store"
        yield Item("shards", folder, beside if beside.is_dir() else None)
        return
    for place in (folder, *_subfolders(folder)):
        store = place / "store" if (place / "store").is_dir() else None
        if store is not None:
            yield Item("store", store)
        for shards in _subfolders(place / "shards"):
            yield Item("shards", shards, store)


def _subfolders(folder: Path) -> list[Path]:
    """Sorted; what an interrupted writer left behind begins with a dot and does not count."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _folders(what: str | None, root: Path) -> list[Path]:
    """What a PATH or NAME means: a folder, or those of all splits of a dataset.

    Raises:
        MissingData: nothing of that name is there.
    """
    from data_pipeline import datasets
    from data_pipeline.storage.typed_paths import typed_path
    from metadist.discovery import nearest

    if what is None:
        return [root]
    for folder in (root / what, typed_path(what)):
        if folder.is_dir():
            return [folder]
    names = [place.name for place in _subfolders(root)]
    if what in datasets.names():
        spec = datasets.load(what).SPEC
        splits = [f"{what}-{split}" for split in spec.splits]
        found = [root / name for name in splits if name in names]
        if found:
            return found
        source = "" if spec.embedded else " --source PATH"
        raise MissingData(
            f"{root}: no prepared {what!r} there; run 'metadist data prepare {what}{source}', or "
            "name the directory that has it with --data-dir"
        )
    raise MissingData(
        f"no {what!r} in {root} and no folder of that path; there are "
        f"{', '.join(names) or 'none'}.{nearest(what, names)}"
    )


def _findings(item: Item, deep: bool) -> list[Finding]:
    from data_pipeline.shards.index import read_description
    from data_pipeline.shards.verify import Finding, verify_shards, verify_store
    from data_pipeline.store.class_store import open_store

    findings: list[Finding] = []
    try:
        if item.kind == "store":
            return verify_store(item.path, deep)
        store = None
        if item.store is not None:
            # The store is an item of its own: what is wrong with its files is told there.
            with contextlib.suppress(DataError):
                store = open_store(item.store, verify=False)
        if store is not None:
            drawn_from = read_description(item.path)[0].identity.dataset_digest
            if drawn_from != store.digest:
                problem = (
                    f"drawn from a store with digest {drawn_from}, the one beside it has "
                    f"{store.digest}; shard it again"
                )
                findings, store = [Finding(item.path, problem)], None
        return findings + verify_shards(item.path, deep, store)
    except (DataError, OSError) as error:
        # Something of another version, gone or unreadable is a finding like any other.
        return [*findings, Finding(item.path, str(error).removeprefix(f"{item.path}: "))]


def described(item: Item, root: Path) -> str:
    """A class store or shard set in one line, from its description alone."""
    from data_pipeline.shards.index import read_description
    from data_pipeline.storage.local import read_sealed_json
    from data_pipeline.store.files import STORE_FILE

    place = str(item.path.relative_to(root) if item.path.is_relative_to(root) else item.path)
    try:
        if item.kind == "store":
            body = read_sealed_json(item.path / STORE_FILE)
            return (
                f"{place:42} {body['dataset']}, split {body['split']}, "
                f"{shape_text(body['shape'])}, digest {body['digest'][:DIGEST_SHOWN]}"
            )
        layout, shards, _ = read_description(item.path)
        return (
            f"{place:42} {sum(s.count for s in shards)} episodes of {layout.identity.dataset} "
            f"{layout.identity.dataset_digest[:DIGEST_SHOWN]} ({layout.payload}), "
            f"{human_bytes(sum(s.size for s in shards))}"
        )
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return f"{place:42} damaged; see 'metadist data verify'"


def shape_text(shape: tuple[int, int, int] | list[int]) -> str:
    height, width, channels = shape
    return f"{height}x{width} {'gray' if channels == 1 else 'RGB' if channels == 3 else channels}"
