"""The index of a shard set: which episodes lie where, and the digest of everything."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
#: Columns of numbers.
_NUMBERS = ("offset", "length", "first", "count")
_TYPES = [pa.string(), pa.string(), *[pa.int64()] * len(_NUMBERS), pa.binary(32)]
_MANIFEST_SCHEMA = pa.schema(
    pa.field(name, kind, nullable=False)
    for name, kind in zip(("shard", "member", *_NUMBERS, "sha256"), _TYPES, strict=True)
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
class Members:
    """The manifest as arrays, one entry per member, in order of episodes.

    Attributes:
        shard: int64 [M], index into ``ShardSet.shards``.
        offset, length: int64 [M], where in the tar its bytes lie.
        first, count: int64 [M], its episodes.
        sha256: its digests, 32 bytes each.
    """

    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    sha256: list[bytes]


@dataclass(frozen=True)
class ShardSet:
    """What ``dataset.json`` and ``manifest.parquet`` say, checked against each other."""

    root: Path
    layout: Layout
    shards: tuple[ShardFile, ...]
    members: Members


def write_description(
    root: Path, layout: Layout, shards: list[ShardFile], members: Members
) -> None:
    """Write the manifest and, last, ``dataset.json``. Same input, same bytes."""
    names = [shards[s].name for s in members.shard.tolist()]
    columns = [
        pa.array(names),
        pa.array([member_name(first) for first in members.first.tolist()]),
        *(pa.array(getattr(members, n)) for n in _NUMBERS),
        pa.array(members.sha256, type=pa.binary(32)),
    ]
    pq.write_table(
        pa.Table.from_arrays(columns, schema=_MANIFEST_SCHEMA),
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
    members = read_manifest(root, layout, shards, manifest)
    return ShardSet(root, layout, shards, members)


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
) -> Members:
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
    expected = sum(-(-shard.count // layout.group) for shard in shards)
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
    # (shard, first episode, number of episodes) of every member.
    rows = [
        (number, first, min(layout.group, shard.first + shard.count - first))
        for number, shard in enumerate(shards)
        for first in range(shard.first, shard.first + shard.count, layout.group)
    ]
    shard, first, count = np.array(rows, dtype=np.int64).T
    named = zip(table["shard"].to_pylist(), table["member"].to_pylist(), strict=True)
    offset, length = table["offset"].to_numpy(), table["length"].to_numpy()
    ends = np.array([s.size for s in shards], dtype=np.int64)[shard]
    if (
        list(named) != [(shards[number].name, member_name(start)) for number, start, _ in rows]
        or not np.array_equal(table["first"].to_numpy(), first)
        or not np.array_equal(table["count"].to_numpy(), count)
        or bool(np.any(offset < 0) | np.any(length < 1) | np.any(length > MEMBER_CAP))
        or bool(np.any(offset > ends - length))
    ):
        raise DamagedData(f"{path}: its members are not the episodes of the shards in order")
    return Members(shard, offset, length, first, count, table["sha256"].to_pylist())


@dataclass(frozen=True)
class TarProblems:
    """How a tar differs from its members in the manifest, in words.

    Attributes:
        foreign: entries that no writer of ours put there.
        damaged: members that are missing or not in their place, or a tar that cannot be read.
    """

    foreign: list[str]
    damaged: list[str]


def compare_tar(shard_set: ShardSet, number: int) -> TarProblems:
    """Compare the entries of shard ``number`` with the manifest; only headers are read.

    Entries must be as our writer writes them, a plain header and the data, one after another from
    the first byte: whatever else a tar allows (longer headers, gaps), other programs may take for
    something else, such as the start of a compressed file.
    """
    members = shard_set.members
    mine = members.shard == number
    places = np.stack([members.first, members.offset, members.length], axis=1)[mine]
    expected = {member_name(first): (offset, length) for first, offset, length in places.tolist()}
    problems = TarProblems([], [])
    try:
        with tarfile.open(shard_set.root / shard_set.shards[number].name, mode="r:") as tar:
            end = 0
            for entry in tar:
                start, end = end, entry.offset_data + -(-entry.size // _TAR_BLOCK) * _TAR_BLOCK
                place = expected.pop(entry.name, None)
                # Exactly a regular file: a sparse one may claim any size.
                if place is None or entry.type != tarfile.REGTYPE:
                    problems.foreign.append(f"entry {entry.name!r} is not one of its members")
                elif (entry.offset, entry.offset_data) != (start, start + _TAR_BLOCK):
                    problems.foreign.append(f"entry {entry.name!r} has more than a plain header")
                elif place != (entry.offset_data, entry.size):
                    problems.damaged.append(f"member {entry.name} is not where the manifest says")
    except (tarfile.TarError, OSError) as error:
        problems.damaged.append(f"not a readable tar ({error})")
    problems.damaged.extend(f"member {name} is missing" for name in expected)
    return problems
