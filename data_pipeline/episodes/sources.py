"""A live episode source from its identity, also in another process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import EpisodeSource, Identity
from data_pipeline.errors import DataError
from data_pipeline.store.class_store import ClassStore, open_store


def live_source(identity: Identity, store: ClassStore | None = None) -> EpisodeSource:
    """The source that draws the episodes of ``identity``.

    Args:
        identity: of images or of a family of functions.
        store: the class store of the images; not needed for functions.

    Raises:
        DataError: images without their store, or what can be drawn here has another identity
            (another dataset digest or generator version).
    """
    source: ImageEpisodes | FunctionEpisodes
    part, spec, seed = identity.part, identity.spec, identity.seed
    if identity.kind == "function":
        source = FunctionEpisodes(identity.dataset, part, spec, seed)
    elif store is None:
        raise DataError(f"episodes of {identity.dataset!r} need its class store, got none")
    else:
        source = ImageEpisodes(store, part, spec, seed)
    require_identity(source.identity, identity, "the episodes drawn here")
    return source


def require_identity(got: Identity, demanded: Identity, what: str) -> None:
    """Check that ``what`` are the episodes that were demanded.

    Raises:
        DataError: they are not; the message names each field that differs.
    """
    have, want = _flat(got), _flat(demanded)
    differing = [f"{k}: demanded {want[k]!r}, got {have[k]!r}" for k in want if have[k] != want[k]]
    if differing:
        raise DataError(f"{what} are other episodes than demanded. " + "; ".join(differing))


def require_drawn(held: EpisodeSource, length: int, live: EpisodeSource, what: str) -> None:
    """Check that ``what``, shards of a family of functions, are what the family draws today.

    Its code is in no digest; the first, the middle and the last episode tell whether it changed.

    Raises:
        DataError: it did.
    """
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
    spec = values.pop("spec")
    return {**values, **{f"spec.{key}": value for key, value in spec.items()}}


@dataclass(frozen=True)
class SourceRecipe:
    """A live source as a few names and numbers, cheap to send to another process.

    Attributes:
        identity: what the source draws.
        store_root: directory of the class store; None for functions.
    """

    identity: Identity
    store_root: Path | None

    @classmethod
    def of(cls, source: EpisodeSource) -> SourceRecipe:
        """The recipe of a source of this package.

        Raises:
            DataError: another kind of source, which nobody else can make again.
        """
        if isinstance(source, FunctionEpisodes):
            return cls(source.identity, None)
        if isinstance(source, ImageEpisodes):
            return cls(source.identity, source.store.root)
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
