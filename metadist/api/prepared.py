"""What is prepared: checked, and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metadist.api.common import Record
from metadist.driver.directories import data_directory
from metadist.process.announce import Announce, quiet

if TYPE_CHECKING:
    from data_pipeline.datasets import Part
    from data_pipeline.prepared import Prepared


@dataclass(frozen=True)
class Checked:
    """A class store or shard set that was looked at.

    Attributes:
        item: which.
        address: of the copy that was read, if that is in an object store; else empty.
        problems: everything that is wrong with it, a line each.
    """

    item: Prepared
    address: str
    problems: tuple[str, ...]


def verify(
    what: str | None = None,
    *,
    deep: bool = False,
    data_dir: str | Path | None = None,
    announce: Announce = quiet,
) -> Iterator[Checked]:
    """Check that prepared data and shards are what was written, one after another.

    Of a place in an object store, what is there is read first; if all of it is well, the working
    copy is brought up to date and checked too.

    Args:
        what: a name in the data directory, of a dataset, or a path; everything if not given.
        deep: look at each image and draw each episode again; takes longer.
        announce: is told of what interrupted writers have left behind.

    Raises:
        MissingData: nothing of that name is there.
        StoreError: an object store cannot be read, or is away.
    """
    from data_pipeline.errors import MissingData
    from data_pipeline.prepared import DESCRIPTIONS, find, folders, published
    from data_pipeline.storage.object_uri import address_of
    from data_pipeline.storage.working_copies import damaged_objects, pull

    root, bad = data_directory(data_dir), False
    for item in published(root):
        name = item.path.relative_to(root).parts[0]
        if what is not None and what != name and not name.startswith(f"{what}-"):
            continue
        problems = tuple(damaged_objects(item.path, DESCRIPTIONS[item.kind]))
        yield Checked(item, address_of(item.path), problems)
        bad = bad or bool(problems)
        if not problems:
            pull(item.path, DESCRIPTIONS[item.kind])
    if bad:
        return
    looked_at = folders(what, root)
    items = [item for folder in looked_at for item in find(folder)]
    if not items:
        raise MissingData(
            f"{what or root}: no class store and no shards there; make some with "
            "'metadist data prepare', or name their directory with --data-dir"
        )
    for item in items:
        yield Checked(item, "", tuple(map(str, item.findings(deep))))
    for left in sorted(path for folder in looked_at for path in folder.rglob(".partial-*")):
        announce(f"{left}: of a writer that is at work or was interrupted; nobody reads it")


def preview(
    what: str,
    *,
    part: Part = "train",
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    announce: Announce = quiet,
) -> Record:
    """Draw a contact sheet of a class store and compute its statistics.

    Args:
        what: a name in the data directory, of a dataset, or a path. Embedded data are made if they
            are not there.
        part: train, val or test: which classes are drawn.
        out: the PNG to write; ``./NAME-PART.png`` if not given.
        announce: is told, in a line each, what is happening.

    Returns:
        path; statistics (part -> figure -> value, see
        :func:`data_pipeline.store.preview.statistics`); nearest_neighbour: mean and 95 % half-width
        of the accuracy of comparing raw pixels in 5-way 1-shot episodes of the part, None if it
        has too few classes.

    Raises:
        DataError: no such store, several, or a damaged one; or ``out`` cannot be written.
    """
    from data_pipeline.errors import DataError
    from data_pipeline.storage.typed_paths import typed_path
    from data_pipeline.store.class_store import open_store
    from data_pipeline.store.preview import contact_sheet, nearest_neighbour_accuracy, statistics

    store = open_store(_one_store(what, data_directory(data_dir), announce))
    path = typed_path(out or f"{store.root.parent.name}-{part}.png").absolute()
    try:
        contact_sheet(store, part, path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); name another file with --out"
        ) from None
    try:
        nearest = nearest_neighbour_accuracy(store, part)
    except DataError:  # too few classes to tell five apart
        nearest = None
    return {"path": path, "statistics": statistics(store), "nearest_neighbour": nearest}


def _one_store(what: str, root: Path, announce: Announce) -> Path:
    """The class store that a name or path means; raises DataError if it is not one."""
    from data_pipeline import datasets, functions
    from data_pipeline.errors import DataError, MissingData
    from data_pipeline.prepared import find, folders
    from data_pipeline.store.build import build_store

    if what in functions.names():
        raise DataError(f"{what} is a family of functions: a preview needs images")
    try:
        looked_at = folders(what, root)
    except MissingData:
        if what not in datasets.names() or not datasets.load(what).SPEC.embedded:
            raise
        announce(f"Making {what} in {root}")
        return build_store(what, root).root
    found = [item.path for folder in looked_at for item in find(folder) if item.kind == "store"]
    if not found:
        raise MissingData(f"{what}: no class store there; make one with 'metadist data prepare'")
    if len(found) > 1:
        raise DataError(
            f"{what}: one class store is needed, there are {', '.join(map(str, found))}"
        )
    return found[0]
