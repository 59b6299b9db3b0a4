"""Anybody's images: one folder per class.

``FOLDER/<class>/<image>``: classes are divided 64 / 16 / 20 % into train, val and test by a frozen
hash of their names. ``FOLDER/{train,val,test}/<class>/<image>``: the folders decide, and without
``val`` a frozen tenth of the training classes is held out. Few-shot learning is tested on classes
that were never trained on, so no class may be in two parts.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

from data_pipeline import levels
from data_pipeline.damaged import Damaged, listed
from data_pipeline.datasets import PARTS, DatasetSpec, Option, Part, RawImage, check_split
from data_pipeline.datasets._holdout import hold_out_tenth
from data_pipeline.errors import DataError, MissingData
from data_pipeline.folders import ITSELF, scan
from data_pipeline.images import Fit, Preparation
from data_pipeline.samples import ALL_LEVELS
from data_pipeline.streams import Stream, fold

log = logging.getLogger(__name__)
SPEC = DatasetSpec(
    name="image_folder",
    summary="your own images: a folder of one folder per class",
    licence="that of the images",
    shape=(84, 84, 3),
    splits=("by_class",),
    version=1,
    options={"size": 84, "channels": 3, "resize": "crop", "min_images": 2, "range": "full"},
    may_skip=True,
)
_MAX_SIZE = 1024
#: A task needs two classes to tell apart.
_MIN_CLASSES = 2
_STRETCH = (
    "If that is all there is (12 bits in files of 16, say), stretch it with `--option range=set`"
)
_LAYOUT = "FOLDER/<class>/<image>, or FOLDER/{train,val,test}/<class>/<image>"

#: Class name -> its images, relative to the folder, sorted.
_Classes = dict[str, list[str]]


def image_shape(**options: Option) -> tuple[int, int, int]:
    """(height, width, channels) of every image under these options.

    Raises:
        DataError: an option has a value it cannot have.
    """
    size, channels = options["size"], options["channels"]
    if not isinstance(size, int) or not 8 <= size <= _MAX_SIZE:
        raise DataError(f"size must lie between 8 and {_MAX_SIZE} pixels, got {size!r}")
    if not isinstance(channels, int) or channels not in (1, 3):
        raise DataError(f"channels must be 1 (gray) or 3 (colour), got {channels!r}")
    return size, size, channels


def preparation(**options: Option) -> Preparation:
    """How images are read under these options.

    Raises:
        DataError: an option has a value it cannot have.
    """
    shape, fit = image_shape(**options), options["resize"]
    if fit not in ("crop", "stretch"):
        raise DataError(f"resize must be 'crop' or 'stretch', got {fit!r}")
    low, high = levels.parsed(str(options.get("range", "full")))
    return Preparation(shape, fit=cast(Fit, fit), upright=True, low=low, high=high)


def recorded_options(source: Path | None, **options: Option) -> dict[str, Option]:
    """Options as a store records them: of ``range`` the levels that ``set`` comes to, and nothing
    where all of the range is read.

    Raises:
        DataError: as :func:`iter_images`; or the images are all of one value.
    """
    options = {**SPEC.options, **options}
    if options["range"] == "set":
        options["range"] = _measured(source, options)
    prepare = preparation(**options)
    if (prepare.low, prepare.high) == ALL_LEVELS:
        del options["range"]
    return options


def _measured(source: Path | None, options: dict[str, Option]) -> str:
    if source is None:
        raise MissingData(
            "range=set is measured on the images: name their folder (`--source PATH`), or give the "
            "range that the store was made with, as range=0-4095"
        )
    root = _root(source)
    prepare, used, damaged = preparation(**{**options, "range": "full"}), levels.Used(), Damaged()
    log.info("%s: looking for the range that the images use", root)
    for _, class_name, files in _in_order(root, options):
        for relative in files:
            # Damage is found again, and named, when the images are read.
            damaged.read(relative, prepare.file, root / relative, partial(used.add, class_name))
    if used.whole is None or used.whole[0] == used.whole[1]:
        raise DataError(f"{root}: its images are of one value, so range=set has none; leave it out")
    return "{}-{}".format(*used.whole)


def describe(source: Path | None) -> dict[str, str]:
    """What the folder holds: so that a store is not taken for that of another folder.

    Raises:
        DataError: as :func:`iter_images`.
    """
    root = _root(source)
    listing = hashlib.sha256()
    count = 0
    for parts in _scan(root).values():
        for relative in parts:
            count += 1
            size = (root / relative).stat().st_size
            listing.update(f"{relative}\0{size}\0".encode())
    return {"images": f"{count} files", "listing_sha256": listing.hexdigest()}


def iter_images(
    source: Path | None = None,
    split: str = "",
    *,
    damaged: Damaged | None = None,
    **options: Option,
) -> Iterator[RawImage]:
    """Yield all images, uint8 [size, size, channels], by class and file name.

    Photographs are turned as their EXIF orientation says. Class names are paths below the folder
    (below ``train``, ``val``, ``test`` where these decide): ``birds/owl`` is a class.

    Args:
        source: the folder.
        split: ``by_class``.
        damaged: notes files that are no image, damaged or too large; all are looked at before they
            are refused.
        options: ``size`` (84), ``channels`` (3, or 1 for gray), ``resize`` (``crop`` the largest
            centred square, or ``stretch`` the whole image), ``min_images`` that a class needs (2),
            ``range`` between black and white: ``full``, ``set`` (from the smallest to the largest
            sample of all images) or ``LOW-HIGH`` among samples of 16 bits.

    Raises:
        MissingData: no such folder.
        DataError: the layout is another, there are too few classes or images, a class is in two
            parts, or an option has a value it cannot have.
        DamagedData, UnsafeData: a file is no image, is too large, or is a link that leads out.
    """
    check_split(SPEC, split)
    if unknown := options.keys() - SPEC.options.keys():
        raise DataError(f"image_folder has no option {', '.join(sorted(unknown))}")
    options = recorded_options(source, **options)
    prepare, root, min_images = preparation(**options), _root(source), _min_images(options)
    damaged = Damaged() if damaged is None else damaged
    used = levels.Used((prepare.low, prepare.high))
    few: list[str] = []
    for part, class_name, files in _in_order(root, options):
        left, seen = 0, partial(used.add, class_name)
        for relative in files:
            pixels = damaged.read(relative, prepare.file, root / relative, seen)
            left += pixels is not None
            # What is refused in the end is read on, so that all of it is named.
            if pixels is not None and not damaged.refused and not few:
                yield RawImage(part, class_name, Path(relative).name, pixels)
        if left < min_images:
            few.append(f"{class_name} ({left} of {len(files)})")
    damaged.check()
    if few:
        raise DataError(
            f"{root}: without the damaged images {len(few)} classes have fewer than {min_images}: "
            f"{listed(few)}. Replace the images, remove these folders, or ask for a smaller "
            "min_images"
        )
    if odd := used.warning(str(root), _STRETCH):
        log.warning("%s", odd)


def _in_order(root: Path, options: dict[str, Option]) -> Iterator[tuple[Part, str, list[str]]]:
    for part, classes in _divide(root, _by_class(root), _min_images(options)).items():
        for class_name in sorted(classes):
            yield part, class_name, classes[class_name]


def _min_images(options: dict[str, Option]) -> int:
    min_images = options["min_images"]
    if not isinstance(min_images, int) or min_images < 1:
        raise DataError(f"min_images must be a positive number, got {min_images!r}")
    return min_images


def _root(source: Path | None) -> Path:
    if source is None:
        raise MissingData(f"image_folder needs a folder of yours, laid out as {_LAYOUT}")
    root = Path(source)
    if not root.is_dir():
        raise MissingData(f"{root}: no such folder; one laid out as {_LAYOUT} is needed")
    return root


def _scan(root: Path) -> _Classes:
    """Folder -> images directly in it, both relative to ``root``, sorted."""
    found = {folder: images for folder, images in scan(root).items() if images}
    if ITSELF in found:
        raise DataError(
            f"{root / found[ITSELF][0]}: lies in no class; {_LAYOUT} is expected, with nothing but "
            "images in it"
        )
    return found


def _by_class(root: Path) -> dict[Part | None, _Classes]:
    """Classes by the part whose folder they are in; under None if no such folders are there."""
    folders = _scan(root)
    tops = {folder.split("/")[0] for folder in folders}
    named = tops & set(PARTS)
    if not named:
        return {None: folders}
    if not {"train", "test"} <= named or tops != named:
        raise DataError(
            f"{root}: holds {', '.join(sorted(tops)[:8])}. Either name all parts (train, test and, "
            "if there is one, val, nothing beside them), or put all class folders side by side "
            "and let them be divided"
        )
    parts: dict[Part | None, _Classes] = {part: {} for part in PARTS if part in named}
    for folder, images in folders.items():
        top, _, class_name = folder.partition("/")
        if not class_name:
            raise DataError(f"{root / images[0]}: lies in no class; {_LAYOUT} is expected")
        parts[cast(Part, top)][class_name] = images
    where = defaultdict(list)
    for part, classes in parts.items():
        for class_name in classes:
            where[class_name].append(str(part))
    shared = sorted(name for name, places in where.items() if len(places) > 1)
    if shared:
        raise DataError(
            f"{root}: class {shared[0]!r} is in {' and in '.join(where[shared[0]])}"
            f"{f' (and {len(shared) - 1} more classes likewise)' if len(shared) > 1 else ''}. "
            "Few-shot learning is tested on classes never trained on: put all class folders side "
            "by side and let them be divided"
        )
    return parts


def _divide(
    root: Path, found: dict[Part | None, _Classes], min_images: int
) -> dict[Part, _Classes]:
    everything = {name: files for classes in found.values() for name, files in classes.items()}
    few = [name for name, files in everything.items() if len(files) < min_images]
    if few:
        raise DataError(
            f"{root}: {len(few)} classes have fewer than {min_images} images: "
            f"{', '.join(few[:8])}{' ...' if len(few) > 8 else ''}. Add images, remove these "
            "folders, or ask for a smaller min_images"
        )
    if None in found:
        names = _hash_split(root, list(everything))
    else:
        names = {cast(Part, part): sorted(classes) for part, classes in found.items()}
        if "val" not in names:
            names["train"], names["val"] = hold_out_tenth(names["train"], "image_folder")
    for part in PARTS:
        if len(names[part]) < _MIN_CLASSES:
            raise DataError(
                f"{root}: {len(names[part])} classes for {part!r}, at least {_MIN_CLASSES} are "
                f"needed; found {len(everything)} classes in all"
            )
    return {part: {name: everything[name] for name in names[part]} for part in PARTS}


def _hash_split(root: Path, class_names: list[str]) -> dict[Part, list[str]]:
    """64 / 16 / 20 % by a rank that each name has for itself, so that a new class moves few."""
    ranked = sorted(class_names, key=lambda n: (Stream(fold("image_folder", n)).raw(), n))
    count = len(ranked)
    val, test = max(_MIN_CLASSES, count * 16 // 100), max(_MIN_CLASSES, count * 20 // 100)
    if count < 3 * _MIN_CLASSES:
        raise DataError(
            f"{root}: found {count} classes with images; at least {3 * _MIN_CLASSES} are needed "
            f"for train, val and test. The layout expected is {_LAYOUT}"
        )
    return {
        "train": sorted(ranked[val + test :]),
        "val": sorted(ranked[:val]),
        "test": sorted(ranked[val : val + test]),
    }
