"""Folders of small images that all differ, for tests of how folders are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image


def fill(root: Path, class_names: Iterable[str], images: int = 2) -> Path:
    """A folder of one folder per class; no image is like another."""
    for name in class_names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            shade = tuple(hash_of(f"{name}/{i}"))
            Image.new("RGB", (9, 9), shade).save(root / name / f"{i}.png")
    return root


def hash_of(text: str) -> bytes:
    """Three bytes that depend on a text."""
    from data_pipeline.storage.local import sha256_bytes

    return bytes.fromhex(sha256_bytes(text.encode())[:6])
