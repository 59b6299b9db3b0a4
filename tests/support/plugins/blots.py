"""Blots: a random pattern of 4x4 squares per class, with noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipeline.datasets import PARTS, DatasetSpec, Option, RawImage, check_split
from data_pipeline.rng import Stream, fold

PART = "dataset"
SPEC = DatasetSpec(
    name="blots",
    summary="generated squares: 50 classes of 12 images, 16x16 gray",
    licence="Apache-2.0 (generated)",
    shape=(16, 16, 1),
    splits=("default",),
    version=1,
    embedded=True,
)
_CLASSES = {"train": 26, "val": 12, "test": 12}


def iter_images(
    source: Path | None = None, split: str = "", **options: Option
) -> Iterator[RawImage]:
    """Yield 12 images of each class, uint8 [16, 16, 1]."""
    check_split(SPEC, split)
    for part in PARTS:
        for number in range(_CLASSES[part]):
            squares = Stream(fold("blots", part, number)).uniforms(16).reshape(4, 4)
            pattern = squares.repeat(4, 0).repeat(4, 1)
            for copy in range(12):
                noise = Stream(fold("blots", part, number, "image"), copy).uniforms(256)
                grey = 127 * pattern + 128 * noise.reshape(16, 16)
                pixels = grey.astype(np.uint8)[:, :, None]
                yield RawImage(part, f"{part}{number:02d}", f"{copy:02d}", pixels)
