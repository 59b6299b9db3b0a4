"""Images of a user's own for a trained learner: labelled ones to adapt to, others to label."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataError, MissingData, listed
from data_pipeline.formats.damaged import SKIPPING, Damaged
from data_pipeline.formats.images import FORMATS, Preparation, is_image
from data_pipeline.formats.levels import Used
from data_pipeline.storage.folders import ITSELF, scan, tell_litter

log = logging.getLogger(__name__)
#: Most images of one folder; they are all kept in memory.
MOST_IMAGES = 10**5
#: Files with these endings must be images; other files may be.
_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
#: Bytes of a file with another ending that are looked at.
_HEAD = 1 << 16


@dataclass(frozen=True)
class LabelledImages:
    """Images of a folder, by label and file name.

    Attributes:
        folder: where they lie.
        files: relative to it.
        labels: of each image, the name of its folder (see :func:`label_text`); None where no label
            is known.
        pixels: uint8 [n, H, W, C].
        passed_over: files that are no images, and damaged ones that were skipped.
    """

    folder: Path
    files: tuple[str, ...]
    labels: tuple[str, ...] | None
    pixels: NDArray[np.uint8]
    passed_over: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)


def read_support(folder: Path, prepare: Preparation, skip_damaged: bool = False) -> LabelledImages:
    """The images of ``folder/<label>/``. Files that are no images are named in a warning.

    Args:
        skip_damaged: so are those that cannot be decoded, as long as each label keeps an image.

    Raises:
        MissingData: no such folder.
        DataError: an image in no folder, a folder without images, or too many images.
        DamagedData, UnsafeData: an image is damaged or too large, or a link leads out.
    """
    found, files, passed_over = _images(folder)
    if found.get(ITSELF):
        raise DataError(
            f"{folder / found[ITSELF][0]}: lies in no class; a folder for each class is needed, "
            "named as its label"
        )
    empty = [label for label, images in found.items() if not images and label != ITSELF]
    if empty:
        raise DataError(
            f"{folder / empty[0]}: holds no image ({', '.join(FORMATS)} are read); add some or "
            "remove the folder"
        )
    if not files:
        raise DataError(_nothing(folder, passed_over, "a folder for each class is needed"))
    labels = _labels(folder, found)
    read = _read(folder, files, labels, prepare, passed_over, skip_damaged)
    if lost := sorted(set(labels) - set(read.labels or ())):
        raise DataError(
            f"{folder}: no image is left of {listed(lost)} without the damaged ones; add some or "
            "remove the folder"
        )
    return read


def read_queries(folder: Path, prepare: Preparation, skip_damaged: bool = False) -> LabelledImages:
    """The images of a folder, or of one folder per label in it.

    Args:
        skip_damaged: go on without those that cannot be decoded; they are named in a warning.

    Raises:
        MissingData: no such folder.
        DataError: no images, some in folders and some not, or too many.
        DamagedData, UnsafeData: an image is damaged or too large, or a link leads out.
    """
    found, files, passed_over = _images(folder)
    if not files:
        raise DataError(_nothing(folder, passed_over, "images to label are needed"))
    holding = [label for label, images in found.items() if images]
    if ITSELF not in holding:
        labels = _labels(folder, found)
        return _read(folder, files, labels, prepare, passed_over, skip_damaged)
    if len(holding) > 1:
        other = next(label for label in holding if label != ITSELF)
        raise DataError(
            f"{folder}: {found[ITSELF][0]} lies beside folders of images ({other}); either put "
            "every image into a folder named as its label, or all of them side by side"
        )
    return _read(folder, files, None, prepare, passed_over, skip_damaged)


def label_text(text: str) -> str:
    """A label in one form (Unicode's NFC): what looks alike is the same label, however the system
    that named it writes an accent."""
    return unicodedata.normalize("NFC", text)


def _labels(folder: Path, found: dict[str, list[str]]) -> tuple[str, ...]:
    """The label of each image, of folders that do not look alike."""
    first: dict[str, str] = {}
    for place in found:
        label = label_text(place)
        if label in first:
            raise DataError(
                f"{folder}: two folders are called {label!r}, written {first[label]!a} and "
                f"{place!a} in Unicode; put their images into one"
            )
        first[label] = place
    return tuple(label_text(place) for place, images in found.items() for _ in images)


def _images(folder: Path) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Images by folder, all of them, and the files that are none."""
    if not folder.is_dir():
        raise MissingData(f"{folder}: no such folder; one that holds images is needed")
    found: dict[str, list[str]] = {}
    passed_over: list[str] = []
    folders, litter = scan(folder)
    tell_litter(folder, litter)
    for place, files in folders.items():
        found[place] = []
        for name in files:
            (found[place] if _may_be_image(folder / name) else passed_over).append(name)
    if passed_over:
        log.warning("%s: passed over what is no image: %s", folder, listed(passed_over))
    files = [name for images in found.values() for name in images]
    if len(files) > MOST_IMAGES:
        raise DataError(f"{folder}: {len(files)} images, at most {MOST_IMAGES} are read at once")
    return found, files, passed_over


def _may_be_image(path: Path) -> bool:
    """Whether a file is, or ought to be, an image: one that is damaged must not go unnoticed."""
    if path.suffix.lower() in _ENDINGS:
        return True
    with path.open("rb") as handle:
        return is_image(handle.read(_HEAD))


def _read(
    folder: Path,
    files: Sequence[str],
    labels: tuple[str, ...] | None,
    prepare: Preparation,
    passed_over: Sequence[str],
    skip_damaged: bool,
) -> LabelledImages:
    pixels = np.empty((len(files), *prepare.shape), dtype=np.uint8)
    damaged, used = Damaged(skip_damaged, SKIPPING), Used((prepare.low, prepare.high))
    kept: list[int] = []
    for row, name in enumerate(files):
        samples = damaged.read(name, prepare.samples, folder / name)
        if samples is not None:
            used.add("", samples)
            pixels[len(kept)] = prepare.prepared(samples)
            kept.append(row)
    damaged.check()
    for said in damaged.described().values():
        log.warning("%s: went on without %s", folder, said)
    if odd := used.warning(str(folder), "Bring the files to that range"):
        log.warning("%s", odd)
    return LabelledImages(
        folder,
        tuple(files[row] for row in kept),
        None if labels is None else tuple(labels[row] for row in kept),
        pixels[: len(kept)],
        (*passed_over, *(files[row] for row in sorted({*range(len(files))} - {*kept}))),
    )


def _nothing(folder: Path, passed_over: list[str], wanted: str) -> str:
    beside = f", but {listed(passed_over)}" if passed_over else ""
    return f"{folder}: holds no image ({', '.join(FORMATS)} are read){beside}; {wanted}"
