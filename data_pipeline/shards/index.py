"""The index of a shard set: which episodes lie where, and the digest of everything."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.episodes.types import BLOCK
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.formats.parquet import read_capped
from data_pipeline.shards.layout import (
    DATASET_FILE,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST_FILE,
    MEMBER_CAP,
    Layout,
    member_name,
    read_layout,
    shard_name,
)
from data_pipeline.storage import local
from data_pipeline.storage.working_copies import Description, Listing

_MANIFEST_CAP = 1024 * 1024 * 1024
_MEMBERS_CAP = 1 << 24
_TAR_BLOCK = 512
#: Bytes and episodes are counted in 64 bits.
_MOST = (1 << 62) - 1
#: What comes of a description in which anything may stand in the place of anything.
_NO_DESCRIPTION = DataError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError
#: What a manifest takes in memory at most; a row of ours takes about 130 bytes.
_ROW_BYTES, _TABLE_BYTES = 256, 1 << 20
_MANIFEST_SCHEMA = pa.schema(
    pa.field(name, kind, nullable=False)
    for name, kind in (
        ("shard", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("first", pa.int64()),
        ("count", pa.int64()),
        ("sha256", pa.binary(32)),
    )
)


@dataclass(frozen=True)
class ShardFile:
    """One tar: its name, digest, size in bytes, first episode and number of episodes."""

    name: str
    sha256: str
    size: int
    first: int
    count: int


@dataclass(frozen=True)
class Member:
    """A row of the manifest: ``count`` episodes from ``first`` on, and where they lie.

    Attributes:
        shard, member: names of the tar and of the entry in it.
        offset, length: bytes of its data in the tar.
        sha256: their digest, 32 bytes.
    """

    shard: str
    member: str
    offset: int
    length: int
    first: int
    count: int
    sha256: bytes


@dataclass(frozen=True)
class ShardSet:
    """What ``dataset.json`` and ``manifest.parquet`` say, checked against each other.

    Attributes:
        manifest: a row for each member, in order of episodes.
    """

    root: Path
    layout: Layout
    shards: tuple[ShardFile, ...]
    manifest: pa.Table

    def members(self, first: int, count: int) -> list[Member]:
        """Those that hold ``count`` episodes from ``first`` on."""
        # All but the last of the set have as many: shards begin at multiples of 64.
        start, stop = first // self.layout.group, -(-(first + count) // self.layout.group)
        return [Member(**row) for row in self.manifest.slice(start, stop - start).to_pylist()]


def write_description(
    root: Path, layout: Layout, shards: list[ShardFile], members: Iterable[Member]
) -> None:
    """Write the manifest and, last, ``dataset.json``. Same input, same bytes."""
    pq.write_table(
        pa.Table.from_pylist([vars(row) for row in members], schema=_MANIFEST_SCHEMA),
        root / MANIFEST_FILE,
        compression="zstd",
        use_dictionary=["shard"],
        write_page_checksum=True,
    )
    body = {
        **layout.as_dict(),
        "episodes": sum(shard.count for shard in shards),
        "shards": [vars(shard) for shard in shards],
        "manifest": {
            "sha256": local.sha256_file(root / MANIFEST_FILE),
            "size": (root / MANIFEST_FILE).stat().st_size,
        },
    }
    local.write_sealed_json(root / DATASET_FILE, body)


def read_description(root: Path) -> tuple[Layout, tuple[ShardFile, ...], dict[str, Any]]:
    """What ``dataset.json`` says: layout, shards, and the manifest's digest and size.

    Raises:
        MissingData: there is no shard set.
        DamagedData: the file is damaged or contradicts itself.
        DataError: it is of another format version.
    """
    path = Path(root) / DATASET_FILE
    if not path.is_file():
        raise MissingData(f"{root}: no episode shards (no {DATASET_FILE}); write them first")
    body = local.read_sealed_json(path)
    if (body.get("format"), body.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise DataError(
            f"{path}: {body.get('format')!r} version {body.get('format_version')!r}, this program "
            f"reads {FORMAT!r} version {FORMAT_VERSION}; write the shards again"
        )
    try:
        layout = read_layout(body)
        shards = tuple(
            ShardFile(
                str(s["name"]), str(s["sha256"]), int(s["size"]), int(s["first"]), int(s["count"])
            )
            for s in body["shards"]
        )
        held = body["manifest"]
        manifest = {"sha256": str(held["sha256"]), "size": int(held["size"])}
        if len(shards) == 0 or int(body["episodes"]) != sum(s.count for s in shards):
            raise ValueError("its shards do not add up to its episodes")
        first = 0
        for number, shard in enumerate(shards):
            name = shard_name(layout.identity.part, number)
            possible = 0 < shard.count <= _MOST and 0 < shard.size <= _MOST and first % BLOCK == 0
            if (shard.name, shard.first) != (name, first) or not possible:
                raise ValueError(f"shard {number} is {shard}, expected {name} from episode {first}")
            if shard.size < 2 * _TAR_BLOCK * -(-shard.count // layout.group):
                raise ValueError(f"{shard.size} bytes of {name} cannot hold {shard.count} episodes")
            first += shard.count
    except _NO_DESCRIPTION as error:
        raise DamagedData(f"{path}: not the description of a shard set ({error!r})") from None
    return layout, shards, manifest


def listed_files(root: Path) -> Listing:
    """Digest and size of every file that ``dataset.json`` lists.

    Raises:
        MissingData, DamagedData, DataError: as :func:`read_description`.
    """
    _, shards, manifest = read_description(root)
    files: Listing = {shard.name: (shard.sha256, shard.size) for shard in shards}
    return files | {MANIFEST_FILE: (manifest["sha256"], manifest["size"])}


DESCRIPTION = Description(DATASET_FILE, listed_files)


def read_shard_set(root: Path) -> ShardSet:
    """Open a shard set: read its description and manifest, and check that its files are there.

    Raises:
        MissingData: there is no shard set, or one of its files is gone.
        DamagedData: the description, the manifest or a shard's size is not what was written.
        UnsafeData: the manifest would take more memory than such a manifest needs.
        DataError: it is of another format version.
    """
    root = Path(root)
    layout, shards, manifest = read_description(root)
    for shard in shards:
        check_size(root / shard.name, shard.size)
    # Last: what it may take in memory follows from how much there is.
    return ShardSet(root, layout, shards, read_manifest(root, layout, shards, manifest))


def check_size(path: Path, size: int) -> None:
    """Check that a file is there and has its size.

    Raises:
        MissingData: no such file.
        DamagedData: another size.
    """
    if not path.is_file():
        raise MissingData(f"{path}: {DATASET_FILE} lists it, but there is no such file")
    got = path.stat().st_size
    if got != size:
        raise DamagedData(f"{path}: it is {got} bytes, {DATASET_FILE} says {size}; write it again")


def read_manifest(
    root: Path, layout: Layout, shards: tuple[ShardFile, ...], recorded: dict[str, Any]
) -> pa.Table:
    """Read the manifest and check it against the description.

    Raises:
        MissingData: no such file.
        DamagedData: it is damaged, or its members are not the episodes of the shards in order.
        UnsafeData: it would take more memory than such a manifest needs.
    """
    path = root / MANIFEST_FILE
    if recorded["size"] > _MANIFEST_CAP:
        raise DamagedData(f"{path}: {recorded['size']} bytes are too many for a manifest")
    check_size(path, recorded["size"])
    data = path.read_bytes()
    if (got := local.sha256_bytes(data)) != recorded["sha256"]:
        raise DamagedData(f"{path}: its digest is {got}, {DATASET_FILE} says {recorded['sha256']}")
    each = [-(-shard.count // layout.group) for shard in shards]
    expected = sum(each)
    if expected > _MEMBERS_CAP:
        raise DamagedData(f"{path}: {expected} members, at most {_MEMBERS_CAP} expected")
    table = read_capped(
        data,
        name=path,
        schema=_MANIFEST_SCHEMA,
        max_rows=expected,
        max_bytes=_TABLE_BYTES + _ROW_BYTES * expected,
    )
    if table.num_rows != expected:
        raise DamagedData(f"{path}: {table.num_rows} members, expected {expected}")
    rows = [
        (
            shard.name,
            member_name(first),
            first,
            min(layout.group, shard.first + shard.count - first),
        )
        for shard in shards
        for first in range(shard.first, shard.first + shard.count, layout.group)
    ]
    said = (table[name].to_pylist() for name in ("shard", "member", "first", "count"))
    offset, length = table["offset"].to_numpy(), table["length"].to_numpy()
    ends = np.repeat(np.array([shard.size for shard in shards], dtype=np.int64), each)
    if (
        list(zip(*said, strict=True)) != rows
        or bool(np.any(offset < 0) | np.any(length < 1) | np.any(length > MEMBER_CAP))
        or bool(np.any(offset > ends - length))
    ):
        raise DamagedData(f"{path}: its members are not the episodes of the shards in order")
    return table


def compare_tar(shard_set: ShardSet, shard: ShardFile) -> tuple[list[str], list[str]]:
    """Compare the entries of a tar with the manifest; only headers are read.

    Entries must be as our writer writes them, a plain header and the data, one after another from
    the first byte: whatever else a tar allows (longer headers, gaps), other programs may take for
    something else, such as the start of a compressed file.

    Returns:
        In words: entries that no writer of ours put there; and members that are missing or not in
        their place, or that the tar cannot be read.
    """
    held = shard_set.members(shard.first, shard.count)
    expected = {member.member: (member.offset, member.length) for member in held}
    foreign: list[str] = []
    damaged: list[str] = []
    try:
        with tarfile.open(shard_set.root / shard.name, mode="r:") as tar:
            end = 0
            for entry in tar:
                start, end = end, entry.offset_data + -(-entry.size // _TAR_BLOCK) * _TAR_BLOCK
                place = expected.pop(entry.name, None)
                # Exactly a regular file: a sparse one may claim any size.
                if place is None or entry.type != tarfile.REGTYPE:
                    foreign.append(f"entry {entry.name!r} is not one of its members")
                elif (entry.offset, entry.offset_data) != (start, start + _TAR_BLOCK):
                    foreign.append(f"entry {entry.name!r} has more than a plain header")
                elif place != (entry.offset_data, entry.size):
                    damaged.append(f"member {entry.name} is not where the manifest says")
    except (tarfile.TarError, OSError) as error:
        damaged.append(f"not a readable tar ({error})")
    damaged.extend(f"member {name} is missing" for name in expected)
    return foreign, damaged
