"""What lies in a data directory: class stores, partitions and shard sets.

On disk or in an object store.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipeline import datasets
from data_pipeline.errors import DataError, MissingData, did_you_mean
from data_pipeline.partitions import layout as partitions
from data_pipeline.shards import index as shards
from data_pipeline.shards.verify import verify_shards
from data_pipeline.storage.objects import object_place
from data_pipeline.storage.typed_paths import typed_path
from data_pipeline.storage.working_copies import Description, described
from data_pipeline.store import layout as store
from data_pipeline.store.class_store import open_store
from data_pipeline.store.verify import Finding, compare_digest, foreign_files, verify_store

Kind = Literal["store", "partitions", "shards"]
DESCRIPTIONS: dict[Kind, Description] = {
    "store": store.DESCRIPTION,
    "partitions": partitions.DESCRIPTION,
    "shards": shards.DESCRIPTION,
}


@dataclass(frozen=True)
class Prepared:
    """A class store, partitions of one, or a shard set.

    Attributes:
        kind: which of these.
        path: its directory.
        store: the class store beside partitions or a shard set, if there is one.
    """

    kind: Kind
    path: Path
    store: Path | None = None

    def findings(self, deep: bool = False) -> list[Finding]:
        """Everything that is not as it was written; empty if nothing is.

        Args:
            deep: look at each image, and draw each episode again.
        """
        try:
            if self.kind == "partitions":
                return self._partitions()
            return verify_store(self.path, deep) if self.kind == "store" else self._shards(deep)
        except (DataError, OSError) as error:
            # Something of another version, gone or unreadable is a finding like any other.
            return [Finding.of(self.path, error)]

    def _partitions(self) -> list[Finding]:
        """Raises DataError for the first thing that is wrong."""
        listed = partitions.listed_files(self.path)
        found = list(foreign_files(self.path, {partitions.DESCRIPTION.name, *listed}))
        for name, (expected, _) in listed.items():
            found.extend(compare_digest(self.path / name, expected, partitions.DESCRIPTION.name))
        if not found and self.store is not None:
            partitions.open_partitions(self.path, open_store(self.store, verify=False))
        return found

    def _shards(self, deep: bool) -> list[Finding]:
        beside = None
        if self.store is not None:
            # The store is an item of its own: what is wrong with its files is told there.
            with contextlib.suppress(DataError):
                beside = open_store(self.store, verify=False)
        if beside is None:
            return verify_shards(self.path, deep)
        drawn_from = shards.read_description(self.path)[0].identity.dataset_digest
        if drawn_from == beside.digest:
            return verify_shards(self.path, deep, beside)
        problem = (
            f"drawn from a store with digest {drawn_from}, the one beside it has {beside.digest}; "
            "shard it again"
        )
        return [Finding(self.path, problem), *Prepared(self.kind, self.path).findings(deep)]


def find(folder: Path) -> Iterator[Prepared]:
    """All that is prepared at or below a folder, also what lacks its description."""
    if (folder / store.DESCRIPTION.name).is_file():
        yield Prepared("store", folder)
        return
    kinds: tuple[Kind, ...] = "partitions", "shards"
    for kind in kinds:
        if (folder / DESCRIPTIONS[kind].name).is_file():
            beside = folder.parent.parent / "store"
            yield Prepared(kind, folder, beside if beside.is_dir() else None)
            return
    for place in (folder, *_subfolders(folder)):
        beside = place / "store"
        held = beside if beside.is_dir() else None
        if held is not None:
            yield Prepared("store", held)
        for kind in kinds:
            for path in _subfolders(place / kind):
                yield Prepared(kind, path, held)


def _subfolders(folder: Path) -> list[Path]:
    """Sorted; what an interrupted writer left behind begins with a dot and does not count."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def folders(what: str | None, root: Path) -> list[Path]:
    """What a path or name means: a folder, or those of all splits of a dataset.

    Args:
        what: a path, or a name in the data directory, or of a dataset; None for all.
        root: the data directory.

    Raises:
        MissingData: nothing of that name is there.
    """
    if what is None:
        return [root]
    for folder in (root / what, typed_path(what)):
        if folder.is_dir():
            return [folder]
    names = [place.name for place in _subfolders(root)]
    if what in datasets.names():
        spec = datasets.load(what).SPEC
        if found := [root / f"{what}-{s}" for s in spec.splits if f"{what}-{s}" in names]:
            return found
        source = "" if spec.embedded else " --source PATH"
        raise MissingData(
            f"{root}: no prepared {what!r} there; run 'metadist data prepare {what}{source}', or "
            "name the directory that has it with --data-dir"
        )
    raise MissingData(
        f"no {what!r} in {root} and no folder of that path; there are "
        f"{', '.join(names) or 'none'}.{did_you_mean(what, names)}"
    )


def published(root: Path) -> list[Prepared]:
    """All that an object store has prepared, if ``root`` is a working copy of one.

    Raises:
        StoreError: the store cannot be read, or is away.
    """
    place = object_place(root)
    kinds = {description.name: kind for kind, description in DESCRIPTIONS.items()}
    names = [Path(found.name) for found in place.objects()] if place else []
    found = {root / name.parent: kinds[name.name] for name in names if name.name in kinds}
    return [Prepared(kind, path) for path, kind in sorted(found.items())]


@contextlib.contextmanager
def descriptions(root: Path) -> Iterator[Path]:
    """A directory with the descriptions of all that is published below ``root``, for a look.

    Of a directory that is no working copy it is that directory itself.

    Raises:
        StoreError: the store cannot be read, or is away.
    """
    place = object_place(root)
    if place is None:
        yield root
        return
    with tempfile.TemporaryDirectory() as scratch:
        for item in published(root):
            inside, description = item.path.relative_to(root), DESCRIPTIONS[item.kind]
            if (data := described(place / str(inside), description)) is not None:
                (Path(scratch) / inside).mkdir(parents=True)
                (Path(scratch) / inside / description.name).write_bytes(data)
        yield Path(scratch)
