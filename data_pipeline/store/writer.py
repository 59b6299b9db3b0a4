"""Writes the files of a class store, from images that arrive one at a time."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.datasets import PARTS, Part, RawImage
from data_pipeline.errors import DataError
from data_pipeline.store.layout import MANIFEST_FILE, MANIFEST_SCHEMA, PartContents, pixel_file

logger = logging.getLogger(__name__)


class StoreWriter:
    """Writes pixel files and manifest from images that arrive one at a time.

    Args:
        dataset: name of the dataset, for error messages.
        shape: (height, width, channels) that every image must have.
        progress: called with (images written, class name) at the start of each class.
    """

    def __init__(
        self,
        dataset: str,
        shape: tuple[int, int, int],
        progress: Callable[[int, str], None] | None = None,
    ) -> None:
        self.count = 0
        self._dataset = dataset
        self._shape = shape
        self._progress = progress

    def write(self, directory: Path, images: Iterable[RawImage]) -> dict[Part, PartContents]:
        """Write all parts and the manifest.

        Raises:
            DataError: the images break the contract of a dataset: parts out of order or missing,
                classes unsorted or scattered, image names repeated, wrong shape or dtype.
        """
        written: dict[Part, PartContents] = {}
        tables: dict[Part, pa.Table] = {}
        with pq.ParquetWriter(
            directory / MANIFEST_FILE,
            MANIFEST_SCHEMA,
            compression="zstd",
            write_page_checksum=True,
            store_schema=True,
        ) as manifest:
            for part, members in groupby(images, key=attrgetter("part")):
                if part not in PARTS or list(written) != list(PARTS[: PARTS.index(part)]):
                    raise self._broken(f"part {part!r} comes after {list(written)}")
                written[part], rows = self._write_part(directory, part, members)
                manifest.write_table(rows)
                tables[part] = rows
        if list(written) != list(PARTS):
            missing = ", ".join(p for p in PARTS if p not in written)
            raise self._broken(f"it has no images for {missing}")
        self._tell_shared_classes(written)
        self._tell_shared_images(tables)
        return written

    def _tell_shared_classes(self, written: dict[Part, PartContents]) -> None:
        for (one, held), (other, also) in combinations(written.items(), 2):
            if shared := sorted({*held.class_names} & {*also.class_names}):
                logger.warning(
                    "%s: %d classes of %s are in %s too by name, such as %r; if they are the same, "
                    "what was trained on is tested on",
                    *(self._dataset, len(shared), one, other, shared[0]),
                )

    def _tell_shared_images(self, tables: dict[Part, pa.Table]) -> None:
        for (one, held), (other, also) in combinations(tables.items(), 2):
            places = pc.index_in(also["sha256"], value_set=held["sha256"].combine_chunks())
            shared = np.flatnonzero(places.is_valid().to_numpy())
            if len(shared):
                first = _name(held, places[int(shared[0])].as_py()), _name(also, int(shared[0]))
                logger.warning(
                    "%s: %d images of %s are in %s too, pixel for pixel, such as %s and %s: what "
                    "was trained on is tested on",
                    *(self._dataset, len(shared), one, other, *first),
                )

    def _write_part(
        self, directory: Path, part: Part, images: Iterator[RawImage]
    ) -> tuple[PartContents, pa.Table]:
        result = PartContents()
        class_index: list[int] = []
        image_names: list[str] = []
        digests: list[bytes] = []
        whole = hashlib.sha256()
        with (directory / pixel_file(part)).open("wb") as handle:
            for class_name, members in groupby(images, key=attrgetter("class_name")):
                self._check_class(part, class_name, result.class_names)
                if self._progress is not None:
                    self._progress(self.count, class_name)
                seen: set[str] = set()
                for image in members:
                    data = self._pixels(image)
                    if image.name in seen:
                        raise self._broken(f"class {class_name!r} has {image.name!r} twice")
                    seen.add(image.name)
                    handle.write(data)
                    whole.update(data)
                    digests.append(hashlib.sha256(data).digest())
                    image_names.append(image.name)
                    self.count += 1
                class_index.extend([len(result.class_names)] * len(seen))
                result.class_names.append(class_name)
                result.images_per_class.append(len(seen))
        result.sha256 = whole.hexdigest()
        rows = len(class_index)
        indices = pa.array(class_index, pa.int32())
        table = pa.table(
            [
                pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [part]),
                indices,
                pa.DictionaryArray.from_arrays(indices, pa.array(result.class_names)),
                pa.array(image_names, pa.string()),
                pa.array(np.arange(rows)),
                pa.array(digests, pa.binary(32)),
            ],
            schema=MANIFEST_SCHEMA,
        )
        return result, table

    def _check_class(self, part: Part, name: str, before: list[str]) -> None:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise self._broken(f"class name {name!r} is not valid Unicode") from None
        if not name or (before and name <= before[-1]):
            after = f" comes after {before[-1]!r}" if before else " has no name"
            raise self._broken(
                f"class {name!r} of {part!r}{after}; classes must be sorted, each in one piece"
            )

    def _pixels(self, image: RawImage) -> bytes:
        pixels: object = image.pixels
        if (
            not isinstance(pixels, np.ndarray)
            or pixels.dtype != np.uint8
            or pixels.shape != self._shape
        ):
            got = (
                f"{pixels.dtype} {list(pixels.shape)}"
                if isinstance(pixels, np.ndarray)
                else type(pixels).__name__
            )
            raise self._broken(
                f"image {image.name!r} of class {image.class_name!r} is {got}, "
                f"uint8 {list(self._shape)} was declared"
            )
        return pixels.tobytes()

    def _broken(self, what: str) -> DataError:
        return DataError(f"dataset {self._dataset!r} breaks its contract: {what}")


def _name(rows: pa.Table, row: int) -> str:
    """Class and name of an image in the manifest."""
    return f"{rows['class_name'][row].as_py()}/{rows['image'][row].as_py()}"
