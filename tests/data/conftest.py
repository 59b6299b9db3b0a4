"""Tiny image datasets and a small shard set, for tests of what stands on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy_dataset import Toy

from data_pipeline import datasets
from data_pipeline.datasets import PARTS, DatasetSpec, RawImage
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import EpisodeSpec
from data_pipeline.shards.writer import write_shards
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import ClassStore

CLASSES = {"train": 8, "val": 4, "test": 4}
IMAGES = 12
SHAPE = (6, 6, 1)


def _images(source: Path | None = None, split: str = "only") -> Iterator[RawImage]:
    pixels = np.random.Philox(key=1)
    for part in PARTS:
        for c in range(CLASSES[part]):
            for i in range(IMAGES):
                raw = pixels.random_raw(36).astype(np.uint64) >> np.uint64(56)
                yield RawImage(
                    part, f"class-{c}", f"{i:02d}.png", raw.astype(np.uint8).reshape(SHAPE)
                )


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> ClassStore:
    """8 training classes of 12 random 6x6 images, 4 validation and 4 test classes."""
    spec = DatasetSpec(
        name="toy",
        summary="noise",
        licence="none",
        shape=SHAPE,
        splits=("only",),
        version=1,
        embedded=True,
    )
    module = SimpleNamespace(SPEC=spec, iter_images=_images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: module)
        return build_store("toy", tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A dataset named toy that the test may change."""
    module = Toy()
    monkeypatch.setattr(datasets, "load", lambda name: module)
    return module


@pytest.fixture(scope="session")
def images(toy_store: ClassStore) -> ImageEpisodes:
    """3-way 1-shot training episodes of the toy store, with 5 queries."""
    return ImageEpisodes(toy_store, "train", EpisodeSpec(3, 1, 5, "per_episode"), 0)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 sinusoids, 10 + 10 points, in three shards; not to be changed."""
    root = tmp_path_factory.mktemp("written") / "set"
    live = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 10, 10), 0)
    write_shards(live, 300, root, episodes_per_shard=128)
    return root


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(written, tmp_path / "set"))
