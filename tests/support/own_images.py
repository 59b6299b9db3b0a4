"""Images of a store as files of a user's, and episodes as folders of them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Pixels uint8 [H, W, C] as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
    return path


def export(episode: Any, folder: Path, row: int = 0) -> tuple[Path, Path]:
    """An episode's support by way and its queries side by side, in order; both as PNG."""
    support, query = folder / "support", folder / "query"
    for n, (pixels, way) in enumerate(
        zip(episode.support_x[row], episode.support_y[row], strict=True)
    ):
        save(support / f"way{way}" / f"{n:03d}.png", pixels)
    for n, pixels in enumerate(episode.query_x[row]):
        save(query / f"{n:03d}.png", pixels)
    return support, query


def request(support: Path, query: Path) -> list[dict[str, str]]:
    """A request to a registered model: the images of two folders, in order of their names."""
    rows = []
    for path in sorted(support.rglob("*.png")):
        rows.append({"role": "support", "label": path.parent.name, "image": in_base64(path)})
    for path in sorted(query.rglob("*.png")):
        rows.append({"role": "query", "label": "", "image": in_base64(path)})
    return rows


def in_base64(path: Path) -> str:
    """A file's bytes as text."""
    return base64.b64encode(path.read_bytes()).decode()
