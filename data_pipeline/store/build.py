"""A class store is made from a dataset, or found again where it was made from the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline import datasets
from data_pipeline.datasets import Option, Part, RawImage
from data_pipeline.errors import DamagedData, DataError, MissingData, did_you_mean
from data_pipeline.formats.damaged import SKIPPED, SKIPPING, Damaged
from data_pipeline.storage import local
from data_pipeline.storage.working_copies import pull, push
from data_pipeline.store import provenance
from data_pipeline.store.class_store import ClassStore, open_local
from data_pipeline.store.layout import (
    DESCRIPTION,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST_FILE,
    STORE_FILE,
    PartContents,
    contents_digest,
    read_description,
)
from data_pipeline.store.writer import StoreWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """What a store is asked to be; two equal requests give the same bytes."""

    module: datasets.Dataset
    source: Path | None
    split: str
    options: dict[str, Option]
    source_options: dict[str, Option]
    shape: tuple[int, int, int]

    @classmethod
    def of(
        cls, module: datasets.Dataset, split: str, given: Mapping[str, Option], source: Path | None
    ) -> _Request:
        """With every option of the dataset.

        Raises:
            DataError: no such split or option, or a value of another type.
        """
        spec = module.SPEC
        usual = {**spec.options, **spec.source_options}
        for key, value in given.items():
            if key not in usual:
                known = ", ".join(sorted(usual)) or "none"
                raise DataError(
                    f"dataset {spec.name!r} has no option {key!r}; it has {known}."
                    f"{did_you_mean(key, usual)}"
                )
            if type(value) is not (wanted := type(usual[key])):
                raise DataError(
                    f"option {key!r} of dataset {spec.name!r} is of type {wanted.__name__}, "
                    f"got {value!r}"
                )
        options = {key: given.get(key, value) for key, value in spec.options.items()}
        reading = {key: given.get(key, value) for key, value in spec.source_options.items()}
        # A dataset whose options change the size of its images says so itself.
        shaper = getattr(module, "image_shape", None)
        shape = spec.shape if shaper is None else shaper(**options)
        split = datasets.check_split(spec, split)
        # So does one whose options depend on the images.
        if recorded := getattr(module, "recorded_options", None):
            options = recorded(source, **options, **reading)
        return cls(module, source, split, options, reading, shape)

    @property
    def _wanted(self) -> dict[str, Any]:
        spec = self.module.SPEC
        return {
            "dataset": spec.name,
            "split": self.split,
            "options": self.options,
            "version": spec.version,
        }

    def mismatch(self, held: Mapping[str, Any]) -> list[str]:
        """What differs between the request and the contents of a ``store.json``, in words."""
        return [
            f"{key} {held[key]!r}, not {value!r}"
            for key, value in self._wanted.items()
            if held[key] != value
        ]

    def described(self) -> dict[str, str] | None:
        """What the store's description is to say; None if there is nothing to make it from."""
        if self.source is None and not self.module.SPEC.embedded:
            return None
        return provenance.describe(self.module, self.source, self.source_options)

    def images(self, damaged: Damaged) -> Iterator[RawImage]:
        """All images of the dataset."""
        noting: dict[str, Any] = {"damaged": damaged} if self.module.SPEC.may_skip else {}
        return self.module.iter_images(
            self.source, self.split, **noting, **self.options, **self.source_options
        )

    def body(
        self, described: dict[str, str], written: Mapping[Part, PartContents], manifest: str
    ) -> dict[str, Any]:
        """The contents of ``store.json``."""
        identity = {**self._wanted, "shape": list(self.shape)}
        return identity | {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "licence": self.module.SPEC.licence,
            "description": described,
            "manifest": manifest,
            "pixels": {part: held.sha256 for part, held in written.items()},
            "digest": contents_digest(identity, written),
        }

    def replacement(self, root: Path) -> str:
        """The command that makes a store in place of the one at ``root``."""
        spec = self.module.SPEC
        source = "" if spec.embedded else " --source PATH"
        return (
            f"`metadist data prepare {spec.name}{source} --split {self.split} --name "
            f"{root.parent.name} --replace`"
        )


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
    if skip_damaged and not module.SPEC.may_skip:
        raise DataError(
            f"{dataset} does not go on without damaged images: what it holds is fixed; drop "
            "`--skip-damaged`"
        )
    damaged = Damaged(skip_damaged, SKIPPING)
    with local.links_followed(follow_links):
        request = _Request.of(module, split, options or {}, source)
        root = store_root(data_dir, dataset, request.split, name)
        if not replace:
            pull(root, DESCRIPTION)
        if (root / STORE_FILE).exists() and not replace:
            store = _reused(root, request, damaged)
        else:
            store = _made(root, request, damaged, progress, replace)
    push(root, DESCRIPTION, replace=replace)
    return store


def _made(
    root: Path,
    request: _Request,
    damaged: Damaged,
    progress: Callable[[int, str], None] | None,
    replace: bool,
) -> ClassStore:
    spec, described = request.module.SPEC, request.described()
    if root.exists() and not replace:
        raise DataError(f"{root} is in the way: it holds no class store; remove it or `--replace`")
    if described is None:
        home = f" It can be had from {spec.homepage}." if spec.homepage else ""
        raise MissingData(
            f"no prepared {spec.name!r} at {root} and no source to make it from: name the folder "
            f"or file that holds its images, `metadist data prepare {spec.name} --source PATH`."
            f"{home}"
        )
    started, writer = time.monotonic(), StoreWriter(spec.name, request.shape, progress)
    try:
        with local.new_directory(root, replace=replace) as directory:
            written = writer.write(directory, request.images(damaged))
            if request.described() != described:
                raise DataError(f"{request.source}: changed while it was read; prepare it again")
            manifest = local.sha256_file(directory / MANIFEST_FILE)
            body = request.body(described | damaged.described(), written, manifest)
            local.write_sealed_json(directory / STORE_FILE, body)
    except FileExistsError:
        # Another process finished the same store first.
        return _reused(root, request, damaged)
    except OSError as error:
        raise DataError(
            f"{root}: could not be made, after {writer.count} images: {error}. Whatever store was "
            "there before is untouched; mend the cause and prepare it again"
        ) from error
    logger.info("%s: %d images in %.1f s", root, writer.count, time.monotonic() - started)
    return open_local(root)


def _reused(root: Path, request: _Request, damaged: Damaged) -> ClassStore:
    """The store at ``root`` if it is the one that is asked for."""
    described = request.described()
    try:
        store = open_local(root)
    except DamagedData as error:
        raise DamagedData(f"{error}; make it anew with {request.replacement(root)}") from error
    mend = "give this one a name of its own with `--name`, or replace that one with `--replace`"
    mismatch, whole = request.mismatch(vars(store)), described is not None
    if whole:
        mismatch += damaged.mismatch(store.description)
    held = {key: said for key, said in store.description.items() if key != SKIPPED}
    wanted = described or provenance.settings(request.module, request.source_options)
    provenance.check_same(root, mismatch, held, wanted, mend, whole=whole)
    return store


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
    module, held = datasets.load(dataset), read_description(root)
    try:
        of_store = held["split"] if held["dataset"] == dataset else ""
        request = _Request.of(module, split or of_store, {}, None)
        mismatch = request.mismatch({**held, "options": request.options})
        other = (held["dataset"], held["split"]) != (dataset, request.split)
        said = dict(held["description"])
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedData(
            f"{root / STORE_FILE}: not the description of a store ({error!r}); prepare it anew"
        ) from error
    # Somebody may still want a store of other data: making it anew is not the first advice.
    how = "name the right one with data.store, or replace this one" if other else "make it anew"
    mend = f"{how} with {request.replacement(root)}"
    provenance.check_same(root, mismatch, said, provenance.code(module), mend)
