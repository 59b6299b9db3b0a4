"""The canonical copy of an image dataset: raw pixels on disk, mapped into memory.

One file of raw uint8 pixels per part (C order, images of a class one after another), a Parquet
manifest with one row per image, and ``store.json``, written last. The digest of a store is a
function of its pixels, classes and settings alone: not of time, path or library versions.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline import datasets
from data_pipeline.datasets import PARTS, DatasetSpec, Option, Part
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.storage.working_copies import pull, push
from data_pipeline.store import origin
from data_pipeline.store.damaged import SKIPPED, Damaged
from data_pipeline.store.files import (
    MANIFEST_FILE,
    STORE_FILE,
    StoreWriter,
    WrittenPart,
    classes_of,
    map_pixels,
    read_rows,
)

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
    source_options: dict[str, Option]
    shape: tuple[int, int, int]

    def mismatch(self, held: Mapping[str, Any]) -> list[str]:
        """What differs between the request and the contents of a ``store.json``, in words."""
        wanted = {
            "dataset": self.spec.name,
            "split": self.split,
            "version": self.spec.version,
            "options": self.options,
        }
        return [
            f"{key} {held[key]!r}, not {value!r}"
            for key, value in wanted.items()
            if held[key] != value
        ]

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
    follow_links: bool = False,
    skip_damaged: bool = False,
) -> ClassStore:
    """Make the class store of a dataset, or open it if it is there already.

    One that is there is opened only if it was made from the same contents, by the same code.

    Images stream to disk one by one. The store appears under its name only when it is complete,
    so an interrupt or a full disk leaves what was there before.

    Args:
        dataset: name of a module in :mod:`data_pipeline.datasets`.
        data_dir: directory of all stores, see :func:`store_root`.
        source: where the raw images are; not needed by embedded datasets.
        split: the division of classes; empty for the dataset's default.
        name: directory name of the store; empty for ``dataset-split``.
        options: options of the dataset and of reading its source; the rest keep their defaults.
        progress: called with (images written, class name) at the start of each class.
        replace: make it anew even if a store is there.
        follow_links: let links lead out of ``source``; the store is that of the files themselves.
        skip_damaged: go on without images that cannot be decoded; the store's description names
            them, its digest is that of the rest.

    Raises:
        DataError: unknown dataset, split or option; a store of other settings or contents lies
            there; the dataset breaks its contract; a file changes meanwhile or cannot be read, or
            the disk is full.
        MissingData: the dataset needs a source.
        DamagedData, UnsafeData: from the source, or the existing store is damaged.
        StoreError: ``data_dir`` stands for a place in an object store, which refuses or is away.
    """
    module = datasets.load(dataset)
    if source is not None and module.SPEC.embedded:
        raise DataError(f"dataset {dataset!r} makes itself and takes no source: drop {source}")
    damaged = Damaged.of(module.SPEC, skip_damaged)
    with local.links_followed(follow_links):
        request = _request(module, split, options or {}, source)
        root = store_root(data_dir, dataset, request.split, name)
        if not replace:
            pull(root)
        store = _make_or_reuse(root, module, request, source, progress, replace, damaged)
    push(root, replace=replace)
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
    described = None
    if source is not None or module.SPEC.embedded:
        described = origin.describe(module, source, request.source_options)
    if (root / STORE_FILE).exists() and not replace:
        return _reuse(root, module, request, described, damaged)
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
    given = {**request.options, **request.source_options}
    images = module.iter_images(source, request.split, **noting, **given)
    writer = StoreWriter(dataset, request.shape, progress)
    try:
        with local.new_directory(root, replace=replace) as directory:
            written = writer.write(directory, images)
            if origin.describe(module, source, request.source_options) != described:
                raise DataError(f"{source}: changed while it was read; prepare it again")
            manifest = local.sha256_file(directory / MANIFEST_FILE)
            body = request.body(described | damaged.described(), written, manifest)
            local.write_sealed_json(directory / STORE_FILE, body)
    except FileExistsError:
        # Another process finished the same store first.
        return _reuse(root, module, request, described, damaged)
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
        pull(Path(root))
    return _open(Path(root), verify)


def _open(root: Path, verify: bool) -> ClassStore:
    path = root / STORE_FILE
    if not path.is_file():
        raise MissingData(f"{root}: no class store; make it with `metadist data prepare`")
    body = local.read_sealed_json(path)
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
            names, offsets = classes_of(manifest, part, root / MANIFEST_FILE)
            recorded = str(body["pixels"][part])
            pixels = map_pixels(root, part, (int(offsets[-1]), *shape), recorded, verify)
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
    body = local.read_sealed_json(store.root / STORE_FILE)
    return read_rows(store.root, store.shape, str(body["manifest"]))


def _request(
    module: datasets.Dataset, split: str, options: Mapping[str, Option], source: Path | None
) -> _Request:
    spec = module.SPEC
    usual = {**spec.options, **spec.source_options}
    for key, value in options.items():
        if key not in usual:
            near = difflib.get_close_matches(key, usual, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(usual)) or "none"
            raise DataError(f"dataset {spec.name!r} has no option {key!r}; it has {known}.{hint}")
        wanted = type(usual[key])
        if type(value) is not wanted:
            raise DataError(
                f"option {key!r} of dataset {spec.name!r} is of type {wanted.__name__}, "
                f"got {value!r}"
            )
    given = {**usual, **options}
    merged = {key: given[key] for key in spec.options}
    # A dataset whose options change the size of its images says so itself.
    shaper = getattr(module, "image_shape", None)
    shape = spec.shape if shaper is None else shaper(**merged)
    reading = {key: given[key] for key in spec.source_options}
    split = datasets.check_split(spec, split)
    # So does one whose options depend on the images.
    if recorded := getattr(module, "recorded_options", None):
        merged = recorded(source, **merged, **reading)
    return _Request(spec, split, merged, reading, shape)


def check_current(root: Path, dataset: str, split: str = "") -> None:
    """See that a store is one of this dataset as it is now: its version and its code.

    Args:
        root: the directory that holds ``store.json``.
        dataset: its name.
        split: the division that is asked for; empty for that of the store.

    Raises:
        MissingData, DamagedData: no store, or it is damaged.
        DataError: it is another, or was made by another version of the dataset.
    """
    module = datasets.load(dataset)
    held = local.read_sealed_json(root / STORE_FILE)
    mend = _anew(module.SPEC, split, root)
    try:
        of_store = held["split"] if held["dataset"] == dataset else ""
        request = _request(module, split or of_store, {}, None)
        mismatch = request.mismatch({**held, "options": request.options})
        other = (held["dataset"], held["split"]) != (dataset, request.split)
        said = dict(held["description"])
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedData(
            f"{root / STORE_FILE}: not that of a store ({error!r}): {mend}"
        ) from error
    # Somebody may still want a store of other data: making it anew is not the first advice.
    how = "name the right one with data.store, or replace this one" if other else "make it anew"
    origin.check_same(root, mismatch, said, origin.code(module), f"{how} with {mend}")


def _anew(spec: DatasetSpec, split: str, root: Path) -> str:
    """The command that makes a store in place of the one at ``root``."""
    source = "" if spec.embedded else " --source PATH"
    chosen = f" --split {split}" if split else ""
    name = f"{source}{chosen} --name {root.parent.name}"
    return f"`metadist data prepare {spec.name}{name} --replace`"


def _reuse(
    root: Path,
    module: datasets.Dataset,
    request: _Request,
    described: dict[str, str] | None,
    damaged: Damaged,
) -> ClassStore:
    """The store at ``root`` if it is the one that is asked for."""
    try:
        store = _open(root, verify=True)
    except DamagedData as error:
        again = _anew(request.spec, request.split, root)
        raise DamagedData(f"{error}; make it anew with {again}") from error
    mend = "give this one a name of its own with `--name`, or replace that one with `--replace`"
    mismatch, whole = request.mismatch(vars(store)), described is not None
    if whole:
        mismatch += damaged.mismatch(store.description)
    held = {key: said for key, said in store.description.items() if key != SKIPPED}
    wanted = described or origin.settings(module, request.source_options)
    origin.check_same(root, mismatch, held, wanted, mend, whole=whole)
    return store


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
    return local.sha256_bytes(local.canonical_json({**identity, "parts": contents}))
