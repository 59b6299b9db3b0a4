"""What is prepared, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metadist.process.resources import human_bytes

if TYPE_CHECKING:
    from data_pipeline.prepared import Prepared

#: Characters of a digest that are shown where it only has to be recognised.
_DIGEST_SHOWN = 12


def summary(item: Prepared, root: Path) -> str:
    """A class store, partitions or a shard set in one line, from its description alone."""
    from data_pipeline.errors import DataError
    from data_pipeline.partitions import layout as partitions
    from data_pipeline.shards import index as shards
    from data_pipeline.store import layout as store
    from metadist.report.phrases import plural

    place = str(item.path.relative_to(root) if item.path.is_relative_to(root) else item.path)
    try:
        if item.kind == "store":
            body = store.read_description(item.path)
            return (
                f"{place:42} {body['dataset']}, split {body['split']}, "
                f"{shape_text(body['shape'])}, digest {body['digest'][:_DIGEST_SHOWN]}"
            )
        if item.kind == "partitions":
            body = partitions.read_description(item.path)
            return (
                f"{place:42} {plural(body['partitions'], 'partition')} of {body['dataset']} "
                f"{body['store_digest'][:_DIGEST_SHOWN]}, {body['clusters']} clusters, "
                f"digest {body['digest'][:_DIGEST_SHOWN]}"
            )
        layout, files, _ = shards.read_description(item.path)
        return (
            f"{place:42} {sum(f.count for f in files)} episodes of {layout.identity.dataset} "
            f"{layout.identity.dataset_digest[:_DIGEST_SHOWN]} ({layout.payload}), "
            f"{human_bytes(sum(f.size for f in files))}"
        )
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return f"{place:42} damaged; see 'metadist data verify'"


def shape_text(shape: tuple[int, int, int] | list[int]) -> str:
    """The shape of an image: height, width, channels."""
    height, width, channels = shape
    return f"{height}x{width} {'gray' if channels == 1 else 'RGB' if channels == 3 else channels}"
