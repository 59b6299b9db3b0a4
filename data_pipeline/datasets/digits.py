"""The one-shot trial on digits: characters of Omniglot to learn from, ten digits to be tested on.

Koch, Zemel & Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition", 2015, section
4.4, take what was trained on Omniglot to MNIST, ten ways at once and without training on digits. In
the place of MNIST stand the 1,797 digits of 8 x 8 pixels that scikit-learn carries (Alpaydin &
Kaynak, "Optical Recognition of Handwritten Digits", 1998): a figure on them is no figure on MNIST.

Training and validation are those of Omniglot's ``vinyals`` split, to the byte; its test characters
are left out. Digits are ink as well: 16 shades become 0 to 255, and 8 x 8 pixels a bilinear 20 x 20
in the middle of 28 x 28, as MNIST's digits are placed.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.datasets import DatasetSpec, Option, RawImage, check_split, omniglot
from data_pipeline.datasets.omniglot import download, preparation
from data_pipeline.errors import DamagedData, DataError, MissingData

__all__ = ["SPEC", "describe", "download", "iter_images", "preparation"]

SPEC = DatasetSpec(
    name="digits",
    summary="Omniglot to learn from, ten classes of digits to be tested on, 28x28 gray",
    licence="MIT (Omniglot: Brenden Lake, 2015); CC BY 4.0 (digits: Alpaydin & Kaynak, 1998)",
    shape=omniglot.SPEC.shape,
    splits=("vinyals",),
    version=1,
    citation=f"{omniglot.SPEC.citation} Alpaydin, Kaynak: Optical recognition of handwritten "
    "digits. UCI Machine Learning Repository, 1998.",
    homepage=omniglot.SPEC.homepage,
)
#: The table of scikit-learn, in its package: a row of 64 shades from 0 to 16, and the digit.
TABLE = Path("datasets") / "data" / "digits.csv.gz"
TABLE_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
_MOST_BYTES = 1 << 20
_SIDE, _SHADES, _PLACED = 8, 16, 20


def describe(source: Path | None) -> dict[str, str]:
    """What the source holds: the complete Omniglot; and which digits are taken.

    Raises:
        DataError: as :func:`iter_images`.
    """
    read_digits()
    return {**omniglot.describe(source), "digits_sha256": TABLE_SHA256}


def iter_images(
    source: Path | None = None, split: str = "", **options: Option
) -> Iterator[RawImage]:
    """Yield Omniglot's drawings of training and validation, then the digits, as ``0`` to ``9``.

    Args:
        source: of Omniglot, see :func:`data_pipeline.datasets._omniglot_source.read_drawings`.
        split: ``vinyals``, 1,028 / 172 characters and 10 digits.
        options: none.

    Raises:
        DataError: Omniglot's source is missing, incomplete, altered or unsafe, scikit-learn is not
            installed, or its digits are others.
    """
    split = check_split(SPEC, split)
    if options:
        raise DataError(f"digits has no options, got {', '.join(options)}")
    pixels, labels = read_digits()
    drawings = omniglot.iter_images(source, split)
    yield from takewhile(lambda image: image.part != "test", drawings)
    for digit in range(10):
        for row in np.flatnonzero(labels == digit).tolist():
            yield RawImage("test", str(digit), f"{row:04d}", placed(pixels[row]))


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Shades uint8 [1797, 8, 8] from 0 to 16, and the digits int64 [1797].

    Raises:
        MissingData: scikit-learn is not installed.
        DamagedData: the table is another.
    """
    found = importlib.util.find_spec("sklearn")
    path = Path(found.origin).parent / TABLE if found and found.origin else None
    if path is None or not path.is_file():
        raise MissingData(
            f"digits: scikit-learn brings them, as {TABLE} of its package, and is not installed "
            "here; 'pip install scikit-learn'"
        )
    try:
        with gzip.open(path) as file:
            text = file.read(_MOST_BYTES)
    except (OSError, EOFError) as error:
        raise DamagedData(f"{path}: not a readable table ({error!r})") from None
    if (got := hashlib.sha256(text).hexdigest()) != TABLE_SHA256:
        raise DamagedData(f"{path}: other digits: its digest is {got}, {TABLE_SHA256} is needed")
    table = np.loadtxt(text.decode().splitlines(), delimiter=",").astype(np.int64)
    return table[:, :-1].reshape(-1, _SIDE, _SIDE).astype(np.uint8), table[:, -1]


def placed(shades: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A digit [8, 8] of 16 shades as ink, uint8 [28, 28, 1]."""
    gray = ((shades.astype(np.int64) * 255 + _SHADES // 2) // _SHADES).astype(np.uint8)
    height, width, _ = SPEC.shape
    picture = Image.new("L", (width, height))
    large = Image.fromarray(gray).resize((_PLACED, _PLACED), Image.Resampling.BILINEAR)
    picture.paste(large, ((width - _PLACED) // 2, (height - _PLACED) // 2))
    return np.asarray(picture, dtype=np.uint8)[:, :, None]
