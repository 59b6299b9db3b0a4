"""Look at a class store: a sheet of images with class names, and figures about each part."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.datasets import Part
from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold
from data_pipeline.storage import local
from data_pipeline.store.class_store import ClassStore, StorePart, read_manifest

#: Of a sheet: classes, and images of each, if there are so many.
_ROWS, _COLUMNS = 20, 10
_GAP = 4
_FONT_SIZE = 14
_LABEL_CHARS = 36
#: Small images are enlarged by a whole factor to about this many pixels.
_CELL = 64
#: What episodes are judged on by nearest neighbours: classes, and queries of each at most.
_WAYS, _QUERIES = 5, 15


def contact_sheet(store: ClassStore, part: Part, path: Path) -> None:
    """Draw images of a part into one PNG: a row per class, its name at the left.

    Classes are taken at equal distances from the sorted list, of each the first images.

    Args:
        store: an open store.
        part: train, val or test.
        path: the PNG to write; one that is there is replaced.
    """
    held = store.parts[part]
    height, width, channels = store.shape
    scale = max(1, _CELL // max(height, width))
    cell_height, cell_width = height * scale + _GAP, width * scale + _GAP
    count = len(held.class_names)
    rows = min(count, _ROWS)
    chosen = [row * (count - 1) // max(1, rows - 1) for row in range(rows)]
    columns = int(min(_COLUMNS, max(np.diff(held.offsets)[chosen])))
    font = ImageFont.load_default(_FONT_SIZE)
    labels = [_shorten(held.class_names[c]) for c in chosen]
    title = f"{store.dataset} {store.split}, {part}: {rows} of {count} classes"
    margin = 2 * _GAP + int(max(font.getlength(label) for label in labels))
    head = _FONT_SIZE + 3 * _GAP
    sheet_width = max(margin + columns * cell_width, int(font.getlength(title)) + _GAP) + _GAP
    row_height = max(cell_height, _FONT_SIZE + _GAP)
    sheet = Image.new("RGB", (sheet_width, head + rows * row_height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, fill="black", font=font)
    for row, (c, label) in enumerate(zip(chosen, labels, strict=True)):
        top = head + row * row_height
        middle = top + cell_height / 2
        draw.text((_GAP, middle), label, fill="black", font=font, anchor="lm")
        first, last = int(held.offsets[c]), int(held.offsets[c + 1])
        for column, index in enumerate(range(first, min(last, first + _COLUMNS))):
            pixels = np.asarray(held.images[index])
            image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
            image = image.resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(image, (margin + column * cell_width, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    local.write_atomic(path, buffer.getvalue())


def statistics(store: ClassStore) -> dict[Part, dict[str, float]]:
    """Figures about each part.

    ``classes``, ``images``; ``images_per_class_min``, ``_median``, ``_max``; ``pixel_min``,
    ``pixel_max`` (0 to 255), ``brightness`` (mean pixel, 0 to 1: the share of ink where images
    are drawn as ink); and images that are pixel for pixel the same:
    ``duplicates_in_class`` (repetitions of an image within its class),
    ``duplicates_across_classes`` (images that another class of the part has too) and
    ``duplicates_across_parts`` (images that another part has too).

    Raises:
        DamagedData: the manifest is not what was written.
    """
    images = read_manifest(store).select(["part", "class_index", "sha256"]).to_pandas()
    images["part"] = images["part"].astype(str)
    classes = images.groupby(["part", "sha256"])["class_index"].transform("nunique")
    parts = images.groupby("sha256")["part"].transform("nunique")
    copies = {
        "in_class": images.duplicated(),
        "across_classes": classes > 1,
        "across_parts": parts > 1,
    }
    figures: dict[Part, dict[str, float]] = {}
    for name, held in store.parts.items():
        per_class = np.diff(held.offsets)
        figures[name] = {
            "classes": len(held.class_names),
            "images": len(held.images),
            "images_per_class_min": int(per_class.min()),
            "images_per_class_median": float(np.median(per_class)),
            "images_per_class_max": int(per_class.max()),
            "pixel_min": int(held.images.min()),
            "pixel_max": int(held.images.max()),
            "brightness": int(held.images.sum(dtype=np.uint64)) / held.images.size / 255,
            **{
                f"duplicates_{how}": int(of[images["part"] == name].sum())
                for how, of in copies.items()
            },
        }
    return figures


def nearest_neighbour_accuracy(
    store: ClassStore, part: Part, *, episodes: int = 200
) -> tuple[float, float]:
    """Accuracy of 5-way 1-shot classification by cosine similarity of raw pixels: a floor.

    Args:
        store: an open store.
        part: train, val or test.
        episodes: how many; they depend on the store's digest alone.

    Returns:
        Mean accuracy over episodes and half the width of its 95 % confidence interval, fractions.

    Raises:
        DataError: fewer than 5 classes have two images or more.
    """
    held = store.parts[part]
    usable = np.flatnonzero(np.diff(held.offsets) >= 2)
    if len(usable) < _WAYS or episodes < 2:
        raise DataError(
            f"{part!r} has {len(usable)} classes of two images or more; {episodes} episodes of "
            f"{_WAYS} classes cannot be drawn from it (at least 2 episodes of 2 classes)"
        )
    key = fold("nearest-neighbour", store.digest, part)
    scores = [_score(held, usable, Stream(key, episode)) for episode in range(episodes)]
    return float(np.mean(scores)), float(1.96 * np.std(scores) / np.sqrt(episodes))


def _score(held: StorePart, usable: NDArray[np.intp], stream: Stream) -> float:
    support: list[int] = []
    query: list[int] = []
    labels: list[int] = []
    for label, chosen in enumerate(stream.sample(len(usable), _WAYS)):
        first, last = (int(n) for n in held.offsets[usable[chosen] : usable[chosen] + 2])
        drawn = stream.sample(last - first, min(_QUERIES + 1, last - first))
        support.append(first + drawn[0])
        query.extend(first + other for other in drawn[1:])
        labels.extend([label] * (len(drawn) - 1))
    similarity = _unit(held.images[query]) @ _unit(held.images[support]).T
    return float(np.mean(similarity.argmax(axis=1) == labels))


def _unit(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Images as vectors of length one, float64 [n, H * W * C]; a black image stays zero."""
    vectors = images.reshape(len(images), -1).astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12))


def _shorten(label: str) -> str:
    if len(label) <= _LABEL_CHARS:
        return label
    half = (_LABEL_CHARS - 3) // 2
    return f"{label[:half]}...{label[-half:]}"
