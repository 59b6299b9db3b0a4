"""A dataset whose images, options and description a test can change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.datasets import PARTS, DatasetSpec, RawImage

FILES = [f"images-{part}.u8" for part in PARTS] + ["manifest.parquet", "store.json"]


class Toy:
    """A dataset whose images, options and description a test can change."""

    def __init__(self, embedded: bool = True) -> None:
        self.SPEC = DatasetSpec(
            name="toy",
            summary="squares",
            licence="none",
            shape=(4, 5, 1),
            splits=("one", "two"),
            version=1,
            embedded=embedded,
            options={"shade": 7, "loud": False, "kind": "plain"},
        )
        self.per_class = 3
        self.description = {"from": "nowhere"}
        self.built = 0

    def describe(self, source: Path | None) -> dict[str, str]:
        """Facts about the source."""
        return self.description

    def iter_images(
        self, source: Path | None = None, split: str = "one", **options: Any
    ) -> Iterator[RawImage]:
        """Three classes in each part, of one shade more in every image."""
        self.built += 1
        for part in PARTS:
            for c in range(3):
                for i in range(self.per_class + c):
                    pixels = np.full(self.SPEC.shape, 10 * c + i + options["shade"], np.uint8)
                    yield RawImage(part, f"{part}-{c}", f"{i}.png", pixels)


def snapshot(root: Path) -> dict[str, bytes]:
    """Names and bytes of a folder's files."""
    return {path.name: path.read_bytes() for path in root.iterdir()}
