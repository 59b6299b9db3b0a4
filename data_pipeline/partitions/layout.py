"""Partitions on disk: which image is in which cluster, and a description, written last.

``clusters.parquet`` has a row for each image of each cluster, ``partitions.json`` says of which
class store they are, how they were made, and the digests. Equal partitions are equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.formats.parquet import read_capped, write_table
from data_pipeline.partitions.partition import Partition, Partitions, contents_digest
from data_pipeline.storage import local
from data_pipeline.storage.working_copies import Description, Listing, pull, push
from data_pipeline.store.class_store import ClassStore

FORMAT = "metadist partitions"
#: Raised when the files' layout changes; partitions of another version have to be made again.
FORMAT_VERSION = 1
PARTITIONS_FILE = "partitions.json"
CLUSTERS_FILE = "clusters.parquet"
FOLDER = "partitions"
#: Images of all clusters of all partitions together; as many take about 1.5 GiB in memory.
MOST_IMAGES = 1 << 27
_SCHEMA = pa.schema(
    pa.field(name, pa.int32(), nullable=False) for name in ("partition", "cluster", "row")
)
_TABLE_BYTES = 1 << 20


def partitions_root(store: Path, name: str) -> Path:
    """Where partitions of a class store lie: ``partitions/<name>`` beside it.

    Raises:
        DataError: ``name`` is not a plain directory name.
    """
    if not name or name.startswith(".") or any(c in "/\\:" or not c.isprintable() for c in name):
        raise DataError(f"{name!r} cannot name partitions: give a plain directory name")
    return store.parent / FOLDER / name


def write_partitions(
    root: Path,
    store: ClassStore,
    partitions: Sequence[Partition],
    made: dict[str, Any],
    *,
    replace: bool = False,
) -> Partitions:
    """Write partitions of the training images of a store; they appear when they are complete.

    Args:
        root: see :func:`partitions_root`.
        made: how they were made, JSON-able.
        replace: in the place of what is there.

    Raises:
        DataError: others are there, there are too many images in all clusters, or the disk is full.
        StoreError: ``root`` stands for a place in an object store, which refuses or is away.
    """
    sizes = [len(partition.rows) for partition in partitions]
    if sum(sizes) > MOST_IMAGES:
        raise DataError(
            f"{root}: {len(sizes)} partitions of together {sum(sizes)} images, at most "
            f"{MOST_IMAGES} are kept; ask for fewer partitions"
        )
    columns = {
        "partition": np.repeat(np.arange(len(sizes)), sizes),
        "cluster": _joined(
            [np.repeat(np.arange(p.clusters), np.diff(p.offsets)) for p in partitions]
        ),
        "row": _joined([partition.rows for partition in partitions]),
    }
    table = pa.table({n: a.astype(np.int32) for n, a in columns.items()}, schema=_SCHEMA)
    digest = contents_digest(store.digest, partitions)
    try:
        with local.new_directory(root, replace=replace) as directory:
            write_table(directory / CLUSTERS_FILE, table)
            body = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "dataset": store.dataset,
                "split": store.split,
                "store_digest": store.digest,
                "partitions": len(sizes),
                "clusters": sum(partition.clusters for partition in partitions),
                "images": sum(sizes),
                "made": made,
                "files": {CLUSTERS_FILE: local.sha256_file(directory / CLUSTERS_FILE)},
                "digest": digest,
            }
            local.write_sealed_json(directory / PARTITIONS_FILE, body)
    except FileExistsError:
        raise DataError(
            f"{root} is there already; give these partitions another name with --name, or put them "
            "in its place with --replace"
        ) from None
    except OSError as error:
        raise DataError(
            f"{root}: could not be made: {error}; mend the cause and do it again"
        ) from error
    push(root, DESCRIPTION, replace=replace)
    return Partitions(root, store.digest, digest, tuple(partitions), made)


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def read_description(root: Path) -> dict[str, Any]:
    """The contents of ``partitions.json``.

    Raises:
        MissingData: there are none.
        DamagedData: the file is damaged.
        DataError: it is of another format version.
    """
    path = root / PARTITIONS_FILE
    if not path.is_file():
        raise MissingData(f"{root}: no partitions there; make them with `metadist data cluster`")
    body = local.read_sealed_json(path)
    if (body.get("format"), body.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise DataError(
            f"{path}: {body.get('format')!r} version {body.get('format_version')!r}; this program "
            f"reads {FORMAT!r} version {FORMAT_VERSION}. Make them again with "
            "`metadist data cluster --replace`"
        )
    return body


def listed_files(root: Path) -> Listing:
    """Digest of every file that ``partitions.json`` lists.

    Raises:
        MissingData, DamagedData, DataError: as :func:`read_description`.
    """
    body = read_description(root)
    try:
        return {CLUSTERS_FILE: (str(body["files"][CLUSTERS_FILE]), None)}
    except (KeyError, TypeError) as error:
        raise DamagedData(
            f"{root / PARTITIONS_FILE}: not the description of partitions ({error!r})"
        ) from None


DESCRIPTION = Description(PARTITIONS_FILE, listed_files)


def open_partitions(root: Path, store: ClassStore) -> Partitions:
    """Open partitions and check them.

    Raises:
        MissingData: none are there, or their file is gone.
        DamagedData: a file is not what was written.
        DataError: they are of other images than the store's, or of another format version.
        StoreError: ``root`` stands for a place in an object store, which refuses or is away.
    """
    pull(root, DESCRIPTION)
    body = read_description(root)
    path = root / CLUSTERS_FILE
    try:
        expected, images, made = body["files"][CLUSTERS_FILE], int(body["images"]), body["made"]
        if not 0 <= images <= MOST_IMAGES or not isinstance(made, dict):
            raise ValueError(f"{images} images in clusters")
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedData(
            f"{root / PARTITIONS_FILE}: not the description of partitions ({error!r})"
        ) from None
    if body.get("store_digest") != store.digest:
        raise DataError(
            f"{root}: partitions of a class store with digest {body.get('store_digest')}, the one "
            f"at {store.root} has {store.digest}; make them again with `metadist data cluster`"
        )
    if (got := local.sha256_file(path)) != expected:
        raise DamagedData(f"{path}: its digest is {got}, {PARTITIONS_FILE} says {expected}")
    width = sum(field.type.bit_width // 8 for field in _SCHEMA)
    table = read_capped(
        path, schema=_SCHEMA, max_rows=images, max_bytes=_TABLE_BYTES + 2 * width * images
    )
    columns = (table[name].to_numpy().astype(np.int64) for name in _SCHEMA.names)
    each = tuple(_partitions(path, len(store.parts["train"].images), *columns))
    digest = contents_digest(store.digest, each)
    if digest != body.get("digest"):
        raise DamagedData(
            f"{root}: the clusters' digest is {digest}, {PARTITIONS_FILE} says {body.get('digest')}"
        )
    return Partitions(root, store.digest, digest, each, made)


def _partitions(
    path: Path,
    images: int,
    numbers: NDArray[np.int64],
    clusters: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> Iterator[Partition]:
    """The columns of the table as partitions; raises DamagedData if they are none."""
    ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1
    if not len(ends) or not np.array_equal(numbers[ends - 1], np.arange(len(ends))):
        raise DamagedData(f"{path}: its partitions are not numbered 0, 1, ...")
    for first, last in zip(np.append(0, ends[:-1]), ends, strict=True):
        inside, own = clusters[first:last], rows[first:last]
        starts = np.flatnonzero(np.diff(inside, prepend=-1))
        ascending = np.diff(own) > 0
        ascending[starts[1:] - 1] = True
        if (
            not np.array_equal(inside[starts], np.arange(len(starts)))
            or not ascending.all()
            or len(np.unique(own)) != len(own)
            or own.min() < 0
            or own.max() >= images
        ):
            raise DamagedData(
                f"{path}: its clusters are not disjoint, in order, of {images} images"
            )
        yield Partition(own, np.append(starts, len(own)).astype(np.int64))


def partitions_of(store: ClassStore, digest: str) -> Partitions:
    """The partitions of this digest among those beside a store.

    Raises:
        MissingData: there are none.
    """
    folder = store.root.parent / FOLDER
    roots = sorted(folder.glob(f"[!.]*/{PARTITIONS_FILE}"))
    for root in (path.parent for path in roots):
        if read_description(root).get("digest") == digest:
            return open_partitions(root, store)
    raise MissingData(f"{folder}: no partitions with digest {digest} there")
