"""What a shard set is: a directory of tars of Arrow streams, with an index and a seal.

``episodes-<part>-NNNNNN.tar`` hold the episodes, ``manifest.parquet`` says where in which tar each
group of episodes lies, and ``dataset.json``, written last, says what the episodes are and gives
the digest of every other file (:mod:`data_pipeline.shards.index`). What stands in a member is in
:mod:`data_pipeline.shards.members`; :mod:`data_pipeline.shards.writer` makes such a directory,
:mod:`data_pipeline.shards.reader` reads it, and :mod:`data_pipeline.shards.verify` checks it.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa

from data_pipeline.datasets import PARTS
from data_pipeline.episodes.types import BLOCK, EpisodeSpec, Identity, Labels, Rotations
from data_pipeline.errors import DataError
from data_pipeline.storage import local

Payload = Literal["inline", "index"]

FORMAT = "metadist episode shards"
#: Raised when the layout changes; shards of another version have to be written again.
FORMAT_VERSION = 1
DATASET_FILE = "dataset.json"
MANIFEST_FILE = "manifest.parquet"
#: Episodes share a member until it holds about this many bytes before compression.
MEMBER_BYTES = 1024 * 1024
#: A member larger than this, stored or decoded, is not ours and is not read.
MEMBER_CAP = 64 * 1024 * 1024
#: Images in an episode have four.
_MOST_DIMENSIONS = 8


def _columns(x: str, x_dtype: str, y_dtype: str, **last: str) -> dict[str, str]:
    support, query = (
        {f"{part}_{x}": x_dtype, f"{part}_y": y_dtype} for part in ("support", "query")
    )
    return {**support, **query, **last}


_COLUMNS: Mapping[tuple[str, Payload], Mapping[str, str]] = {
    ("images", "inline"): _columns("x", "uint8", "int64", class_ids="int64"),
    ("images", "index"): _columns("rows", "int64", "int64", class_ids="int64"),
    ("function", "inline"): _columns("x", "float32", "float32", latent="float64"),
}


def import_webdataset() -> ModuleType:
    """webdataset, told to run nothing it reads; it decides that when it is first imported."""
    os.environ["WDS_SECURE"] = "1"
    return importlib.import_module("webdataset")


def shard_name(part: str, number: int) -> str:
    """File name of a shard."""
    return f"episodes-{part}-{number:06d}.tar"


def member_name(first: int) -> str:
    """Name inside its tar of the member that starts with episode ``first``."""
    return f"{first:012d}.arrow"


@dataclass(frozen=True)
class Layout:
    """How the episodes of one identity are laid out in members.

    Attributes:
        identity: which episodes these are.
        payload: ``inline`` holds the inputs, ``index`` rows of the class store in their place.
        shapes: shape of each column for one episode, in column order.
        group: episodes per member (G), a power of two that divides 64.
    """

    identity: Identity
    payload: Payload
    shapes: Mapping[str, tuple[int, ...]]
    group: int

    @functools.cached_property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Type of each column, in column order; all little-endian on disk."""
        columns = columns_of(self.identity.kind, self.payload)
        return {name: np.dtype(dtype) for name, dtype in columns.items()}

    @functools.cached_property
    def episode_bytes(self) -> int:
        """Size of one episode before compression, its id included."""
        return 8 + sum(
            dtype.itemsize * math.prod(self.shapes[name]) for name, dtype in self.dtypes.items()
        )

    @functools.cached_property
    def schema(self) -> Any:
        """The Arrow schema of every member: ``id``, then fixed-shape tensors."""
        fields = [pa.field("id", pa.int64(), nullable=False)]
        for name, dtype in self.dtypes.items():
            tensor = pa.fixed_shape_tensor(pa.from_numpy_dtype(dtype), list(self.shapes[name]))
            fields.append(pa.field(name, tensor, nullable=False))
        return pa.schema(fields, metadata={"episodes": local.canonical_json(self.as_dict())})

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able form; also the metadata of every member."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "identity": self.identity.as_dict(),
            "payload": self.payload,
            "columns": {
                name: {"dtype": dtype.name, "shape": list(self.shapes[name])}
                for name, dtype in self.dtypes.items()
            },
            "episodes_per_member": self.group,
        }


def columns_of(kind: str, payload: Payload) -> Mapping[str, str]:
    """Name and dtype of the columns beside ``id``, in order.

    Raises:
        DataError: functions have no class store to point into.
    """
    columns = _COLUMNS.get((kind, payload))
    if columns is None:
        raise DataError(f"payload {payload!r} does not exist for {kind} episodes; use 'inline'")
    return columns


def largest_group(episode_bytes: int) -> int:
    """Episodes per member: the largest power of two up to 64 that stays within a member's size."""
    group = BLOCK
    while group > 1 and group * episode_bytes > MEMBER_BYTES:
        group //= 2
    return group


def read_layout(body: Mapping[str, Any]) -> Layout:
    """The layout that :meth:`Layout.as_dict` described.

    Raises:
        KeyError, TypeError, AttributeError, ValueError, ArithmeticError, DataError: it is not one.
    """
    fields = dict(body["identity"])
    spec = EpisodeSpec(**fields.pop("spec"))
    identity = Identity(spec=spec, **fields)
    whole = (spec.ways, spec.shots, spec.queries, identity.seed, identity.generator)
    if (
        identity.part not in PARTS
        or spec.rotations not in get_args(Rotations)
        or spec.labels not in get_args(Labels)
        or not all(type(number) is int for number in whole)
    ):
        raise ValueError(f"impossible identity {identity}")
    payload = cast(Payload, body["payload"])
    shapes = {
        str(name): tuple(int(n) for n in column["shape"])
        for name, column in body["columns"].items()
    }
    layout = Layout(identity, payload, shapes, int(body["episodes_per_member"]))
    ways = spec.ways if identity.kind == "images" else 1
    lengths = {"support": ways * spec.shots, "query": ways * spec.queries, "class": ways}
    for name, shape in shapes.items():
        length = lengths.get(name.split("_")[0])
        bounded = 0 < len(shape) <= _MOST_DIMENSIONS and 1 <= min(shape) <= max(shape) <= MEMBER_CAP
        if not bounded or length not in (None, shape[0]):
            raise ValueError(f"column {name} has shape {shape}, {length} examples expected")
    # Also holds the names and types of the columns to the expected ones.
    if layout.as_dict()["columns"] != body["columns"]:
        raise ValueError(f"columns {sorted(body['columns'])} are not those of {payload!r}")
    if layout.episode_bytes * layout.group > MEMBER_CAP:
        raise ValueError(f"members of {layout.episode_bytes * layout.group} bytes are too large")
    if layout.group != largest_group(layout.episode_bytes):
        raise ValueError(f"{layout.group} episodes per member")
    return layout
