"""Anybody's images: one folder per class.

``FOLDER/<class>/<image>``: classes are divided 64 / 16 / 20 % into train, val and test by a frozen
hash of their names. ``FOLDER/{train,val,test}/<class>/<image>``: the folders decide, in whatever
spelling, and without ``val`` a frozen tenth of the training classes is held out. Few-shot learning
is tested on classes that were never trained on, so no class may be in two parts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from data_pipeline.datasets import PARTS, DatasetSpec, Option, Part, RawImage, check_split
from data_pipeline.datasets._holdout import hold_out_tenth
from data_pipeline.datasets._layout import LAYOUT, places
from data_pipeline.errors import DataError, MissingData, listed
from data_pipeline.formats import levels
from data_pipeline.formats.damaged import Damaged
from data_pipeline.formats.images import Fit, Preparation
from data_pipeline.formats.samples import ALL_LEVELS
from data_pipeline.rng import Stream, fold
from data_pipeline.storage.folders import ITSELF, Scan, contents_sha256, scan, tell_litter

log = logging.getLogger(__name__)
SPEC = DatasetSpec(
    name="image_folder",
    summary="your own images: a folder of one folder per class",
    licence="that of the images",
    shape=(84, 84, 3),
    splits=("by_class",),
    version=1,
    options={"size": 84, "channels": 3, "resize": "crop", "min_images": 2, "range": "full"},
    source_options={"class_names": "distinct"},
    may_skip=True,
)
_KNOWN = {**SPEC.options, **SPEC.source_options}
_MAX_SIZE = 1024
#: A task needs two classes to tell apart.
_MIN_CLASSES = 2
#: Fewer than these in a part, and the usual recipes cannot draw an episode from it.
_USUAL_WAYS = 5
_STRETCH = (
    "If that is all there is (12 bits in files of 16, say), stretch it with `--option range=set`"
)

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
    options = {**_KNOWN, **options}
    if options["range"] == "set":
        options["range"] = _measured(source, options)
    prepare = preparation(**options)
    unsaid = {*SPEC.source_options}
    if (prepare.low, prepare.high) == ALL_LEVELS:
        unsaid.add("range")
    return {key: value for key, value in options.items() if key not in unsaid}


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
            samples = damaged.read(relative, prepare.samples, root / relative)
            if samples is not None:
                used.add(class_name, samples)
    if used.whole is None or used.whole[0] == used.whole[1]:
        raise DataError(f"{root}: its images are of one value, so range=set has none; leave it out")
    return "{}-{}".format(*used.whole)


def describe(source: Path | None) -> dict[str, str]:
    """What the folder holds: so that a store is not taken for that of another folder.

    Raises:
        DataError: as :func:`iter_images`.
    """
    root = _root(source)
    files = [file for images in _scan(root).folders.values() for file in images]
    return {"images": f"{len(files)} files", "source_sha256": contents_sha256(root, files)}


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
            sample of all images) or ``LOW-HIGH`` among samples of 16 bits;
            ``class_names`` (``distinct``: the names of folders must differ, even where paths do
            and in more than letter case or blanks; or ``paths``: a class is its path).

    Raises:
        MissingData: no such folder.
        DataError: the layout is another, there are too few classes or images, a class is in two
            parts, or an option has a value it cannot have.
        DamagedData, UnsafeData: a file is no image, is too large, or is a link that leads out.
    """
    check_split(SPEC, split)
    if unknown := options.keys() - _KNOWN.keys():
        raise DataError(f"image_folder has no option {', '.join(sorted(unknown))}")
    options = {**_KNOWN, **options, "range": "full", **recorded_options(source, **options)}
    prepare, root, min_images = preparation(**options), _root(source), _min_images(options)
    damaged = Damaged() if damaged is None else damaged
    used = levels.Used((prepare.low, prepare.high))
    few: list[str] = []
    for part, class_name, files in _in_order(root, options, tell=True):
        left = 0
        for relative in files:
            samples = damaged.read(relative, prepare.samples, root / relative)
            if samples is None:
                continue
            left += 1
            used.add(class_name, samples)
            # What is refused in the end is read on, so that all of it is named.
            if not damaged.refused and not few:
                yield RawImage(part, class_name, Path(relative).name, prepare.prepared(samples))
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


def _in_order(
    root: Path, options: dict[str, Option], *, tell: bool = False
) -> Iterator[tuple[Part, str, list[str]]]:
    if (class_names := options["class_names"]) not in ("distinct", "paths"):
        raise DataError(f"class_names must be 'distinct' or 'paths', got {class_names!r}")
    folders, litter = _scan(root)
    # By the part that folders name for them; under None if no folders do.
    by_class: dict[Part | None, _Classes] = {}
    for folder, place in places(root, folders, str(class_names)).items():
        by_class.setdefault(place.part, {})[place.class_name] = folders[folder]
    divided = _divide(root, by_class or {None: {}}, _min_images(options))
    if tell:
        tell_litter(root, litter)
        _tell_few(root, divided, by_class)
    for part, classes in divided.items():
        for class_name in sorted(classes):
            yield part, class_name, classes[class_name]


def _min_images(options: dict[str, Option]) -> int:
    min_images = options["min_images"]
    if not isinstance(min_images, int) or min_images < 1:
        raise DataError(f"min_images must be a positive number, got {min_images!r}")
    return min_images


def _root(source: Path | None) -> Path:
    if source is None:
        raise MissingData(f"image_folder needs a folder of yours, laid out as {LAYOUT}")
    root = Path(source)
    if not root.is_dir():
        raise MissingData(f"{root}: no such folder; one laid out as {LAYOUT} is needed")
    return root


def _scan(root: Path) -> Scan:
    """Folders with images directly in them."""
    everything, litter = scan(root)
    found = {folder: images for folder, images in everything.items() if images}
    if ITSELF in found:
        raise DataError(
            f"{root / found[ITSELF][0]}: lies in no class; {LAYOUT} is expected, with nothing but "
            "images in it"
        )
    return Scan(found, litter)


def _divide(
    root: Path, found: dict[Part | None, _Classes], min_images: int
) -> dict[Part, _Classes]:
    everything = {name: files for classes in found.values() for name, files in classes.items()}
    few = [name for name, files in everything.items() if len(files) < min_images]
    if few:
        raise DataError(
            f"{root}: {len(few)} classes have fewer than {min_images} images: "
            f"{listed(few)}. Add images, remove these folders, or ask for a smaller min_images"
        )
    if None in found:
        names = _hash_split(root, list(everything))
    else:
        names = {cast(Part, part): sorted(classes) for part, classes in found.items()}
        if "val" not in names:
            least = 2 * _MIN_CLASSES
            if len(names["train"]) < least:
                raise DataError(
                    f"{root}: {len(names['train'])} training classes and no val folder: at least "
                    f"{least} are needed, of which {_MIN_CLASSES} are held out for validation; or "
                    f"put {_MIN_CLASSES} or more other classes into a folder 'val' beside 'train'"
                )
            names["train"], names["val"] = hold_out_tenth(names["train"], "image_folder")
    for part in PARTS:
        if len(names[part]) < _MIN_CLASSES:
            raise DataError(
                f"{root}: {len(names[part])} classes for {part!r}, at least {_MIN_CLASSES} are "
                f"needed; found {len(everything)} classes in all"
            )
    return {part: {name: everything[name] for name in names[part]} for part in PARTS}


def _tell_few(
    root: Path, names: dict[Part, _Classes], named: Mapping[Part | None, _Classes]
) -> None:
    """Say before a run does how many ways there can be."""
    part = min(PARTS, key=lambda part: len(names[part]))
    if len(names[part]) >= _USUAL_WAYS:
        return
    mend = f"more classes into {part!r}"
    if None in named:
        mend = "32 classes or more into the folder, or divide them yourself by train, val and test"
    elif part == "val" and part not in named:
        mend = f"{_USUAL_WAYS} classes into a folder 'val', or {10 * _USUAL_WAYS} into 'train'"
    log.info(
        "%s: %d classes for %r, so its episodes have at most %d ways; for %d put %s",
        *(root, len(names[part]), part, len(names[part]), _USUAL_WAYS, mend),
    )


def _hash_split(root: Path, class_names: list[str]) -> dict[Part, list[str]]:
    """64 / 16 / 20 % by a rank that each name has for itself, so that a new class moves few."""
    ranked = sorted(class_names, key=lambda n: (Stream(fold("image_folder", n)).raw(), n))
    count = len(ranked)
    val, test = max(_MIN_CLASSES, count * 16 // 100), max(_MIN_CLASSES, count * 20 // 100)
    if count < 3 * _MIN_CLASSES:
        raise DataError(
            f"{root}: found {count} classes with images; at least {3 * _MIN_CLASSES} are needed "
            f"for train, val and test. The layout expected is {LAYOUT}"
        )
    return {
        "train": sorted(ranked[val + test :]),
        "val": sorted(ranked[:val]),
        "test": sorted(ranked[val : val + test]),
    }
