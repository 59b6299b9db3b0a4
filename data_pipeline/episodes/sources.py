"""A live episode source from its identity, also in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline import episode_sources
from data_pipeline.datasets import Part
from data_pipeline.episode_sources import SourceSpec
from data_pipeline.episodes.columns import check_columns, check_labels, check_range
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.staged import StagedSource
from data_pipeline.episodes.types import (
    TURNS,
    EpisodeBatch,
    EpisodeSource,
    EpisodeSpec,
    Identity,
)
from data_pipeline.errors import DataError
from data_pipeline.partitions.layout import partitions_of
from data_pipeline.store.class_store import ClassStore, open_store

#: Kind of the episodes of a source from outside, unless it has one of its own.
SOURCE = "source"


def live_source(identity: Identity, store: ClassStore | None = None) -> EpisodeSource:
    """The source that draws the episodes of ``identity``.

    Args:
        identity: of images, of a family of functions or of a source from outside.
        store: the class store of the images; not needed for others.

    Raises:
        DataError: images without their store, or what can be drawn here has another identity
            (another dataset digest or generator version), or its partitions are not there.
    """
    source: EpisodeSource
    part, spec, seed = identity.part, identity.spec, identity.seed
    if identity.kind == "function":
        source = FunctionEpisodes(identity.dataset, part, spec, seed)
    elif identity.kind != "images":
        source = require_plain(open_source(identity.dataset, part, spec, seed))
    elif store is None:
        raise DataError(f"episodes of {identity.dataset!r} need its class store, got none")
    else:
        held = identity.payload.get("partitions")
        partitions = None if held is None else partitions_of(store, str(held))
        source = ImageEpisodes(store, part, spec, seed, partitions)
    require_identity(source.identity, identity, "the episodes drawn here")
    return source


def identity_of(
    known: SourceSpec,
    part: Part,
    spec: EpisodeSpec,
    seed: int,
    payload: Mapping[str, Any] | None = None,
) -> Identity:
    """The identity of a source from outside.

    Args:
        payload: what else decides its episodes, JSON-able.
    """
    digest = episode_sources.source_digest(known)
    return Identity(SOURCE, known.name, digest, part, seed, spec, payload=payload or {})


def open_source(
    name: str, part: Part, spec: EpisodeSpec, seed: int
) -> EpisodeSource | StagedSource:
    """A source from outside, checked: its identity, its columns, and that episodes are pure.

    Raises:
        DataError: no such source, it cannot draw such episodes, or it does not keep the contract.
    """
    module = episode_sources.load(name)
    try:
        source: EpisodeSource | StagedSource = module.open(part, spec, seed)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{name}: {part} episodes of {spec} cannot be had: {type(error).__name__}: {error}"
        ) from error
    got = source.identity
    wanted = replace(identity_of(module.SPEC, part, spec, seed), kind=got.kind, payload=got.payload)
    require_identity(got, wanted, f"the episodes of {name!r}")
    if got.kind in ("images", "function"):
        raise DataError(f"{name}: the kind {got.kind!r} is taken; {SOURCE!r} is what others have")
    try:
        check_columns(source.schema, spec.ways)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None
    if not isinstance(source, StagedSource):
        check_drawn(source)
    return source


def require_plain(source: EpisodeSource | StagedSource) -> EpisodeSource:
    """A source whose episodes do not depend on what has been learned.

    Raises:
        DataError: it is staged.
    """
    if isinstance(source, StagedSource):
        raise DataError(
            f"{source.identity.dataset}: the {source.identity.part} episodes depend on the "
            "parameters (they are staged), which only training episodes can that are drawn live; "
            "return a source with episodes(ids) for other parts, and leave data.storage at 'live'"
        )
    return source


def check_drawn(source: EpisodeSource) -> None:
    """Draw an episode alone and behind another; both must be the same, and as the schema says.

    Raises:
        DataError: they are not, or labels or classes are none of those that there are.
    """
    alone, behind = source.episodes([0]), source.episodes([1, 0])
    name = source.identity.dataset
    for batch, ids in ((alone, [0]), (behind, [1, 0])):
        lengths = {len(array) for array in batch.arrays().values()}
        if batch.ids.tolist() != ids or lengths != {len(ids)}:
            raise DataError(f"{name}: episodes {ids} were asked for, got {batch.ids.tolist()}")
    if dict(alone.schema) != dict(source.schema):
        raise DataError(
            f"{name}: episodes have the columns {dict(alone.schema)}, its schema promises "
            f"{dict(source.schema)}"
        )
    for column, array in alone.columns.items():
        if array[0].tobytes() != behind.columns[column][1].tobytes():
            raise DataError(
                f"{name}: episode 0 is another when it is drawn again (column {column!r}); an "
                "episode depends on part, spec, seed and its id alone: draw its random numbers "
                "from data_pipeline.rng.Stream(fold(...), id)"
            )
    try:
        check_labels(behind.columns, source.identity.spec.ways)
        _check_classes(source.identity, behind)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None


def _check_classes(identity: Identity, batch: EpisodeBatch) -> None:
    """See that training episodes are of classes that there are; raises ValueError."""
    ids = batch.columns.get("class_ids")
    if ids is None or identity.part != "train":
        return
    classes = episode_sources.load(identity.dataset).SPEC.classes
    # Turned classes are counted by the source itself, see TURNS.
    most = classes * (TURNS if identity.spec.rotations == "none" else 1)
    check_range(f"class_ids of a source with SPEC.classes = {classes}", ids, 0, most)


def require_identity(got: Identity, demanded: Identity, what: str) -> None:
    """Check that ``what`` are the episodes that were demanded.

    Raises:
        DataError: they are not; the message names each field that differs.
    """
    have, want = _flat(got), _flat(demanded)
    differing = [
        f"{key}: demanded {want.get(key)!r}, got {have.get(key)!r}"
        for key in {**want, **have}
        if have.get(key) != want.get(key)
    ]
    if differing:
        raise DataError(f"{what} are other episodes than demanded. " + "; ".join(differing))


def require_drawn(held: EpisodeSource, length: int, live: EpisodeSource, what: str) -> None:
    """Check that ``what``, shards of a family of functions, are what the family draws today.

    Or of a source from outside. Its code is in no digest; the first, the middle and the last
    episode tell whether it changed.

    Raises:
        DataError: it did.
    """
    if dict(held.schema) != dict(live.schema):
        raise DataError(
            f"{what} have the columns {dict(held.schema)}, {live.identity.dataset!r} draws "
            f"{dict(live.schema)} now: its code has changed. Raise SPEC.version, or write them "
            "anew with `metadist data shard --replace`"
        )
    ids = sorted({0, length // 2, length - 1})
    drawn = live.episodes(ids).arrays()
    for name, array in held.episodes(ids).arrays().items():
        if not np.array_equal(array, drawn[name]):
            raise DataError(
                f"{what} hold another {name} than {live.identity.dataset!r} draws now, under the "
                "same version: its code has changed. Raise SPEC.version, or write them anew with "
                "`metadist data shard --replace`"
            )


def _flat(identity: Identity) -> dict[str, object]:
    values = asdict(identity)
    spec, payload = values.pop("spec"), values.pop("payload")
    named = {f"spec.{key}": value for key, value in spec.items()}
    return {**values, **named, **({"payload": payload} if payload else {})}


@dataclass(frozen=True)
class SourceRecipe:
    """A live source as a few names and numbers, cheap to send to another process.

    Attributes:
        identity: what the source draws.
        store_root: directory of the class store; None for others.
    """

    identity: Identity
    store_root: Path | None

    @classmethod
    def of(cls, source: EpisodeSource) -> SourceRecipe:
        """The recipe of a source that draws live.

        Raises:
            DataError: another kind of source, which nobody else can make again.
        """
        if isinstance(source, ImageEpisodes):
            return cls(source.identity, source.store.root)
        if isinstance(source, FunctionEpisodes):
            return cls(source.identity, None)
        raise DataError(
            f"a {type(source).__name__} cannot be made again in another process; use writers=1"
        )

    def open(self) -> EpisodeSource:
        """Make the source.

        Raises:
            DataError: what lies at ``store_root`` now is not the store it was.
        """
        # The process that made the recipe has read and verified the store already.
        store = None if self.store_root is None else open_store(self.store_root, verify=False)
        return live_source(self.identity, store)
