"""The canonical copy of an image dataset: raw pixels on disk, mapped into memory.

One file of raw uint8 pixels per part (C order, images of a class one after another), a Parquet
manifest with one row per image, and ``store.json``, written last. The digest of a store is a
function of its pixels, classes and settings alone: not of time, path or library versions.
"""

from __future__ import annotations

import difflib
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline import datasets, storage
from data_pipeline._store_files import (
    MANIFEST_FILE,
    STORE_FILE,
    StoreWriter,
    WrittenPart,
    pixel_file,
    pixel_size,
    read_rows,
)
from data_pipeline.damaged import Damaged
from data_pipeline.datasets import PARTS, DatasetSpec, Option, Part
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.remote_data import bring, publish

logger = logging.getLogger(__name__)

FORMAT = "metadist class store"
#: Raised when the files' layout changes; a store of another version has to be prepared again.
FORMAT_VERSION = 1
_IDENTITY = ("dataset", "split", "options", "version", "shape")


@dataclass(frozen=True, eq=False)
class StorePart:
    """The images of one part.

    Attributes:
        part: train, val or test.
        images: uint8 [n, H, W, C], mapped read-only.
        class_names: sorted, without duplicates.
        offsets: int64 [classes + 1]; images of class c are rows ``offsets[c]:offsets[c + 1]``.
    """

    part: Part
    images: NDArray[np.uint8]
    class_names: tuple[str, ...]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassStore:
    """An opened class store.

    Attributes:
        root: the directory it lies in.
        dataset, split: what it was made from.
        shape: (height, width, channels) of every image.
        digest: SHA-256 of dataset, split, options, version, shape, classes and pixels.
        licence: what its images may be used for.
        description: what the dataset says of its source, such as whether it is complete.
        parts: the images.
        options: the dataset's options, all of them.
        version: the version of the dataset's generator or preprocessing.
    """

    root: Path
    dataset: str
    split: str
    shape: tuple[int, int, int]
    digest: str
    licence: str
    description: dict[str, str]
    parts: Mapping[Part, StorePart]
    options: dict[str, Option] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True)
class _Request:
    """What a store is asked to be; two equal requests give the same bytes."""

    spec: DatasetSpec
    split: str
    options: dict[str, Option]
    shape: tuple[int, int, int]

    def mismatch(self, store: ClassStore) -> str:
        """What differs between the request and a store, in words; empty if nothing does."""
        pairs: list[tuple[str, Any, Any]] = [
            ("dataset", self.spec.name, store.dataset),
            ("split", self.split, store.split),
            ("version", self.spec.version, store.version),
            ("options", self.options, store.options),
        ]
        return "; ".join(f"{n} {got!r}, not {want!r}" for n, want, got in pairs if want != got)

    def body(
        self, described: dict[str, str], written: Mapping[Part, WrittenPart], manifest: str
    ) -> dict[str, Any]:
        """The contents of ``store.json``."""
        identity: dict[str, Any] = {
            "dataset": self.spec.name,
            "split": self.split,
            "options": self.options,
            "version": self.spec.version,
            "shape": list(self.shape),
        }
        return identity | {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "licence": self.spec.licence,
            "description": described,
            "manifest": manifest,
            "pixels": {part: held.sha256 for part, held in written.items()},
            "digest": _digest(identity, written),
        }


def store_root(data_dir: Path, dataset: str, split: str = "", name: str = "") -> Path:
    """Where the store of a dataset lies: ``data_dir / (name or dataset-split) / "store"``.

    Raises:
        DataError: no such dataset or split, or ``name`` is not a plain directory name.
    """
    if not name:
        name = f"{dataset}-{datasets.check_split(datasets.load(dataset).SPEC, split)}"
    if name.startswith(".") or any(c in "/\\:" or not c.isprintable() for c in name):
        raise DataError(f"{name!r} cannot name a store: give a plain directory name")
    return Path(data_dir) / name / "store"


def build_store(
    dataset: str,
    data_dir: Path,
    *,
    source: Path | None = None,
    split: str = "",
    name: str = "",
    options: Mapping[str, Option] | None = None,
    progress: Callable[[int, str], None] | None = None,
    replace: bool = False,
    skip_damaged: bool = False,
) -> ClassStore:
    """Make the class store of a dataset, or open it if it is there already.

    Images stream to disk one by one. The store appears under its name only when it is complete,
    so an interrupt or a full disk leaves what was there before.

    Args:
        dataset: name of a module in :mod:`data_pipeline.datasets`.
        data_dir: directory of all stores, see :func:`store_root`.
        source: where the raw images are; not needed by embedded datasets.
        split: the division of classes; empty for the dataset's default.
        name: directory name of the store; empty for ``dataset-split``.
        options: options of the dataset; the rest keep their defaults.
        progress: called with (images written, class name) at the start of each class.
        replace: make it anew even if a store is there.
        skip_damaged: go on without images that cannot be decoded; the store's description names
            them, its digest is that of the rest.

    Raises:
        DataError: unknown dataset, split or option; a store of other settings lies there; the
            dataset breaks its contract; a file cannot be read or the disk is full.
        MissingData: the dataset needs a source.
        DamagedData, UnsafeData: from the source, or the existing store is damaged.
        StoreError: ``data_dir`` stands for a place in an object store, which refuses or is away.
    """
    module = datasets.load(dataset)
    request = _request(module, split, options or {}, source)
    root = store_root(data_dir, dataset, request.split, name)
    if not replace:
        bring(root)
    damaged = Damaged.of(module.SPEC, skip_damaged)
    store = _make_or_reuse(root, module, request, source, progress, replace, damaged)
    publish(root, replace=replace)
    return store


def _make_or_reuse(
    root: Path,
    module: datasets.Dataset,
    request: _Request,
    source: Path | None,
    progress: Callable[[int, str], None] | None,
    replace: bool,
    damaged: Damaged,
) -> ClassStore:
    dataset = request.spec.name
    described = _describe(module, source) if source is not None or module.SPEC.embedded else None
    if (root / STORE_FILE).exists() and not replace:
        return _reuse(root, request, described, damaged)
    if root.exists() and not replace:
        raise DataError(f"{root} is in the way: it holds no class store; remove it or `--replace`")
    if described is None:
        home = f" It can be had from {module.SPEC.homepage}." if module.SPEC.homepage else ""
        raise MissingData(
            f"no prepared {dataset!r} at {root} and no source to make it from: name the folder "
            f"or file that holds its images, `metadist data prepare {dataset} --source PATH`.{home}"
        )
    started = time.monotonic()
    noting: dict[str, Any] = {"damaged": damaged} if request.spec.may_skip else {}
    images = module.iter_images(source, request.split, **noting, **request.options)
    writer = StoreWriter(dataset, request.shape, progress)
    try:
        with storage.new_directory(root, replace=replace) as directory:
            written = writer.write(directory, images)
            manifest = storage.sha256_file(directory / MANIFEST_FILE)
            body = request.body(described | damaged.described(), written, manifest)
            storage.write_sealed_json(directory / STORE_FILE, body)
    except FileExistsError:
        # Another process finished the same store first.
        return _reuse(root, request, described, damaged)
    except OSError as error:
        raise DataError(
            f"{root}: could not be made, after {writer.count} images: {error}. Whatever store was "
            "there before is untouched; mend the cause and prepare it again"
        ) from error
    seconds = time.monotonic() - started
    logger.info("%s: %d images in %.1f s", root, writer.count, seconds)
    return _open(root, verify=True)


def open_store(root: Path, *, verify: bool = True) -> ClassStore:
    """Open a class store and check it.

    Args:
        root: the directory that holds ``store.json``.
        verify: also read all pixels and compare their digests (1 to 2 GB/s); and bring a working
            copy up to date first.

    Raises:
        MissingData: no store, or one of its files is not there.
        DamagedData: a file is not what was written; it is named.
        DataError: it was made by another version of the format.
        StoreError: ``root`` stands for a place in an object store, which refuses or is away.
    """
    if verify:
        bring(Path(root))
    return _open(Path(root), verify)


def _open(root: Path, verify: bool) -> ClassStore:
    path = root / STORE_FILE
    if not path.is_file():
        raise MissingData(f"{root}: no class store; make it with `metadist data prepare`")
    body = storage.read_sealed_json(path)
    if (body.get("format"), body.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise DataError(
            f"{path}: {body.get('format')!r} version {body.get('format_version')!r}; this program "
            f"reads {FORMAT!r} version {FORMAT_VERSION}. Prepare it again with "
            "`metadist data prepare --replace`"
        )
    try:
        height, width, channels = (int(n) for n in body["shape"])
        shape = (height, width, channels)
        if min(shape) < 1:
            raise ValueError(f"images of shape {shape}")
        manifest = read_rows(root, shape, str(body["manifest"]))
        parts: dict[Part, StorePart] = {}
        contents: dict[Part, WrittenPart] = {}
        for part in PARTS:
            names, offsets = _classes(manifest, part, root / MANIFEST_FILE)
            recorded = str(body["pixels"][part])
            pixels = _map_pixels(root, part, (int(offsets[-1]), *shape), recorded, verify)
            parts[part] = StorePart(part, pixels, names, offsets)
            contents[part] = WrittenPart(list(names), np.diff(offsets).tolist(), recorded)
        digest = _digest({key: body[key] for key in _IDENTITY}, contents)
        if digest != body["digest"]:
            raise DamagedData(f"{path}: the files' digest is {digest}, it says {body['digest']}")
        return ClassStore(
            root=root,
            dataset=body["dataset"],
            split=body["split"],
            shape=shape,
            digest=digest,
            licence=body["licence"],
            description=dict(body["description"]),
            parts=parts,
            options=dict(body["options"]),
            version=body["version"],
        )
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise DamagedData(f"{path}: not the description of a store ({error!r})") from error


def read_manifest(store: ClassStore) -> pa.Table:
    """One row per image: part, class_index, class_name, image, row, sha256 of its pixels.

    Raises:
        DamagedData: the manifest is not what was written.
    """
    body = storage.read_sealed_json(store.root / STORE_FILE)
    return read_rows(store.root, store.shape, str(body["manifest"]))


def _request(
    module: datasets.Dataset, split: str, options: Mapping[str, Option], source: Path | None
) -> _Request:
    spec = module.SPEC
    for key, value in options.items():
        if key not in spec.options:
            near = difflib.get_close_matches(key, spec.options, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(spec.options)) or "none"
            raise DataError(f"dataset {spec.name!r} has no option {key!r}; it has {known}.{hint}")
        wanted = type(spec.options[key])
        if type(value) is not wanted:
            raise DataError(
                f"option {key!r} of dataset {spec.name!r} is of type {wanted.__name__}, "
                f"got {value!r}"
            )
    merged = {**spec.options, **options}
    # A dataset whose options change the size of its images says so itself.
    shaper = getattr(module, "image_shape", None)
    shape = spec.shape if shaper is None else shaper(**merged)
    split = datasets.check_split(spec, split)
    # So does one whose options depend on the images.
    if recorded := getattr(module, "recorded_options", None):
        merged = recorded(source, **merged)
    return _Request(spec, split, merged, shape)


def _describe(module: datasets.Dataset, source: Path | None) -> dict[str, str]:
    describe = getattr(module, "describe", None)
    return {} if describe is None else dict(describe(source))


def _reuse(
    root: Path, request: _Request, described: dict[str, str] | None, damaged: Damaged
) -> ClassStore:
    """The store at ``root`` if it is the one that is asked for."""
    try:
        store = _open(root, verify=True)
    except DamagedData as error:
        again = f"make it anew with `metadist data prepare {request.spec.name} --replace`"
        raise DamagedData(f"{error}; {again}") from error
    mismatch = request.mismatch(store)
    if not mismatch and described is not None:
        mismatch = damaged.mismatch(store.description, described)
    if mismatch:
        raise DataError(
            f"{root} holds another store ({mismatch}): give this one a name of its own with "
            "`--name`, or replace that one with `--replace`"
        )
    return store


def _classes(
    manifest: pa.Table, part: Part, path: Path
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names of a part and the offsets of their images."""
    rows = manifest.filter(pc.equal(manifest["part"].cast("string"), part)).combine_chunks()
    index = rows["class_index"].to_numpy()
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    names = tuple(rows["class_name"].take(pa.array(starts)).to_pylist())
    if (
        not names
        or list(names) != sorted(set(names))
        or not np.array_equal(index[starts], np.arange(len(starts)))
        or not np.array_equal(rows["row"].to_numpy(), np.arange(len(rows)))
    ):
        raise DamagedData(f"{path}: its {part!r} rows are not sorted classes of images")
    offsets = np.append(starts, len(rows)).astype(np.int64)
    offsets.setflags(write=False)
    return names, offsets


def _map_pixels(
    root: Path, part: Part, shape: tuple[int, int, int, int], sha256: str, verify: bool
) -> NDArray[np.uint8]:
    path = root / pixel_file(part)
    size, expected = pixel_size(root, part), math.prod(shape)
    if size != expected:
        raise DamagedData(f"{path}: {size} bytes, {expected} expected for {shape[0]} images")
    if verify and (got := storage.sha256_file(path)) != sha256:
        raise DamagedData(f"{path}: its digest is {got}, {STORE_FILE} says {sha256}")
    return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)


def _digest(identity: Mapping[str, Any], parts: Mapping[Part, WrittenPart]) -> str:
    """The digest of a store. The images' names, paths, times and versions have no part in it."""
    contents = {
        part: {
            "pixels": held.sha256,
            "class_names": held.class_names,
            "images_per_class": held.images_per_class,
        }
        for part, held in parts.items()
    }
    return storage.sha256_bytes(storage.canonical_json({**identity, "parts": contents}))
