"""Episodes as they are written to shards, a look at whether they came back, and a new seal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSpec
from data_pipeline.shards.layout import DATASET_FILE, MANIFEST_FILE
from data_pipeline.storage import local

SINUSOID = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 10, 10), 0)
FIRST_SHARD = "episodes-train-000000.tar"


def assert_same(got: EpisodeBatch, expected: EpisodeBatch) -> None:
    """Bit for bit."""
    ours, theirs = got.arrays(), expected.arrays()
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)
        assert array.tobytes() == theirs[name].tobytes()


def rows_of(source: ImageEpisodes, ids: Sequence[int]) -> SimpleNamespace:
    """Episodes without their pixels, each column an attribute."""
    return SimpleNamespace(**source.rows(ids).columns)


def reseal(root: Path) -> None:
    """Make ``dataset.json`` fit the shards, as somebody who means harm would."""
    body = local.read_sealed_json(root / DATASET_FILE)
    for shard in body["shards"]:
        shard["sha256"] = local.sha256_file(root / shard["name"])
        shard["size"] = (root / shard["name"]).stat().st_size
    body["manifest"] = {
        "sha256": local.sha256_file(root / MANIFEST_FILE),
        "size": (root / MANIFEST_FILE).stat().st_size,
    }
    local.write_sealed_json(root / DATASET_FILE, body)


class Altered:
    """A source that is not what it ought to be."""

    def __init__(self, inner: Any, **changes: Any) -> None:
        self.identity, self.schema = inner.identity, inner.schema
        self.episodes = inner.episodes
        vars(self).update(changes)
