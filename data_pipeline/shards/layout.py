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
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from data_pipeline.datasets import PARTS
from data_pipeline.episodes.columns import check_columns
from data_pipeline.episodes.functions import points_schema
from data_pipeline.episodes.images import images_schema, rows_schema
from data_pipeline.episodes.types import (
    BLOCK,
    Column,
    Drawer,
    EpisodeSpec,
    Identity,
    Labels,
    Rotations,
    Schema,
    Within,
    ordered,
)
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
_DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
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
        columns: beside ``id``, in their order.
        group: episodes per member (G), a power of two that divides 64.
    """

    identity: Identity
    payload: Payload
    columns: Schema
    group: int

    @functools.cached_property
    def stored(self) -> dict[str, np.dtype[Any]]:
        """Type of each column on disk, little-endian; truth values are bytes there."""
        return {
            name: np.dtype("uint8" if column.dtype == "bool" else column.dtype)
            for name, column in self.columns.items()
        }

    @functools.cached_property
    def episode_bytes(self) -> int:
        """Size of one episode before compression, its id included."""
        return 8 + sum(
            dtype.itemsize * math.prod(self.columns[name].shape)
            for name, dtype in self.stored.items()
        )

    @functools.cached_property
    def schema(self) -> Any:
        """The Arrow schema of every member: ``id``, then fixed-shape tensors."""
        fields = [pa.field("id", pa.int64(), nullable=False)]
        for name, dtype in self.stored.items():
            shape = list(self.columns[name].shape)
            tensor = pa.fixed_shape_tensor(pa.from_numpy_dtype(dtype), shape)
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
                name: {"dtype": column.dtype, "shape": list(column.shape)}
                for name, column in self.columns.items()
            },
            "episodes_per_member": self.group,
        }


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
    sizes = (spec.ways, spec.shots, spec.queries, spec.unlabeled, spec.distractors, spec.attributes)
    if (
        identity.part not in PARTS
        or spec.rotations not in get_args(Rotations)
        or spec.labels not in get_args(Labels)
        or spec.within not in get_args(Within)
        or spec.drawer not in get_args(Drawer)
        or not all(type(number) is int for number in (*sizes, identity.seed, identity.generator))
        or not all(isinstance(fields[name], str) for name in ("kind", "dataset", "dataset_digest"))
        or not isinstance(fields.get("payload", {}), dict)
    ):
        raise ValueError(f"impossible identity {identity}")
    payload = body["payload"]
    if payload not in get_args(Payload):
        raise ValueError(f"there is no payload {payload!r}")
    described = {
        str(name): Column(str(column["dtype"]), tuple(int(n) for n in column["shape"]))
        for name, column in body["columns"].items()
    }
    for name, column in described.items():
        check_column(name, column)
    _check_columns(identity, payload, described)
    layout = Layout(
        identity,
        payload,
        {name: described[name] for name in ordered(described)},
        int(body["episodes_per_member"]),
    )
    if layout.episode_bytes * layout.group > MEMBER_CAP:
        raise ValueError(f"members of {layout.episode_bytes * layout.group} bytes are too large")
    if layout.group != largest_group(layout.episode_bytes):
        raise ValueError(f"{layout.group} episodes per member")
    return layout


def check_column(name: str, column: Column) -> None:
    """A name, a type and a shape that a member can have; raises ValueError."""
    shape = column.shape
    bounded = len(shape) <= _MOST_DIMENSIONS and all(1 <= n <= MEMBER_CAP for n in shape)
    if not (name.isidentifier() and name != "id" and column.dtype in _DTYPES and bounded and shape):
        raise ValueError(f"impossible column {name!r}: {column.dtype} {shape}")


def _check_columns(identity: Identity, payload: Payload, columns: Schema) -> None:
    """See that the columns are those of the episodes of an identity; raises ValueError."""
    spec = identity.spec
    if payload == "index" and identity.kind == "images":
        expected = rows_schema(spec)
    elif payload == "inline" and identity.kind == "images":
        expected = images_schema(spec, columns["support_x"].shape[1:])
    elif payload == "inline" and identity.kind == "function":
        sides = columns["support_x"].shape[1], columns["support_y"].shape[1]
        expected = points_schema(spec, *sides, columns["latent"].shape[0])
    elif payload == "inline":
        return check_columns(columns, spec.ways)
    else:
        raise ValueError(f"payload {payload!r} of {identity.kind!r} episodes")
    if dict(expected) != dict(columns):
        raise ValueError(f"columns {dict(columns)}, {dict(expected)} expected")
