"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

Drawings are stored as ink: 255 where the pen was, 0 on paper, 28 x 28 pixels. They are resized
from 105 x 105 with an anti-aliased bilinear filter. This deviates from the script that came with
MAML, which asked for a Lanczos filter but gave it two-colour images, for which Pillow silently
takes the nearest pixel: strokes break there and do not here. The smoother filter learns a little
faster than Lanczos, and both clearly faster than the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.datasets import PARTS, DatasetSpec, Option, RawImage, check_split
from data_pipeline.datasets._omniglot_classes import ALPHABETS, DRAWERS, split_classes
from data_pipeline.datasets._omniglot_source import CONTENT_SHA256, download, read_drawings
from data_pipeline.errors import DataError, MissingData
from data_pipeline.formats.images import Preparation
from data_pipeline.storage.folders import tell_litter

__all__ = ["SPEC", "describe", "download", "iter_images", "preparation"]

SPEC = DatasetSpec(
    name="omniglot",
    summary="handwritten characters: 1,623 classes of 20 drawings, 28x28 gray",
    licence="MIT (Brenden Lake, 2015)",
    shape=(28, 28, 1),
    splits=("vinyals", "lake", "random1200"),
    version=1,
    citation="Lake, Salakhutdinov, Tenenbaum: Human-level concept learning through probabilistic "
    "program induction. Science 350, 2015.",
    homepage="https://github.com/brendenlake/omniglot",
)
_DRAWING_PIXELS = 105 * 105


def describe(source: Path | None) -> dict[str, str]:
    """What the source holds: always the complete collection, since nothing else is accepted.

    Raises:
        DataError: as :func:`iter_images`.
    """
    read_drawings(_given(source))
    return {
        "complete": f"yes: {sum(a.characters for a in ALPHABETS) * DRAWERS} drawings",
        "source_sha256": CONTENT_SHA256,
    }


def preparation(**options: Option) -> Preparation:
    """How drawings are read: black ink on white paper, as they are published."""
    return Preparation(SPEC.shape, resampling="bilinear", invert=True)


def iter_images(
    source: Path | None = None, split: str = "", **options: Option
) -> Iterator[RawImage]:
    """Yield all drawings, uint8 [28, 28, 1], as ``Alphabet/characterNN``, by drawer.

    Args:
        source: see :func:`data_pipeline.datasets._omniglot_source.read_drawings`.
        split: ``vinyals`` (1,028 / 172 / 423 characters), ``lake`` (868 / 96 / 659) or
            ``random1200`` (1,080 / 120 / 423).
        options: none.

    Raises:
        DataError: the source is missing, incomplete, altered or unsafe, or the split is unknown.
    """
    split = check_split(SPEC, split)
    if options:
        raise DataError(f"omniglot has no options, got {', '.join(options)}")
    drawings, litter = read_drawings(_given(source))
    tell_litter(_given(source), litter)
    places = {a.class_name(c): (a, c) for a in ALPHABETS for c in range(1, a.characters + 1)}
    parts, prepare = split_classes(split), preparation()
    for part in PARTS:
        for class_name in parts[part]:
            alphabet, character = places[class_name]
            for drawer in range(1, DRAWERS + 1):
                path = alphabet.path(character, drawer)
                pixels = prepare.pixels(drawings[path], path, max_pixels=_DRAWING_PIXELS)
                yield RawImage(part, class_name, f"drawer{drawer:02d}", pixels)


def _given(source: Path | None) -> Path:
    if source is None:
        raise MissingData(f"omniglot needs a source; it can be had from {SPEC.homepage}")
    return Path(source)
