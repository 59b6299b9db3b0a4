"""Check a class store and list everything that is wrong with it, not only the first thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DamagedData, MissingData
from data_pipeline.storage import local
from data_pipeline.storage.folders import is_litter
from data_pipeline.store.class_store import ClassStore, open_store, read_manifest
from data_pipeline.store.layout import STORE_FILE, listed_files, pixel_file


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written.

    Attributes:
        path: the file.
        problem: what is wrong with it, in words.
    """

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"

    @classmethod
    def of(cls, path: Path, error: Exception) -> Finding:
        """What an error says of a file; the errors of this package begin with the path."""
        text = str(error).removeprefix(f"{path}: ").removeprefix(f"{path}, ")
        return cls(path, text)


def verify_store(root: Path, deep: bool = False) -> list[Finding]:
    """Check a class store.

    Args:
        root: the directory that holds ``store.json``.
        deep: also compare every image with its own digest in the manifest, so that the images
            that are damaged are named.

    Returns:
        Everything that is wrong; empty if nothing is.

    Raises:
        MissingData: there is no store.
        DataError: it was made by another version of the format.
    """
    root = Path(root)
    try:
        files = listed_files(root)
    except DamagedData as error:
        return [Finding.of(root / STORE_FILE, error)]
    findings = list(foreign_files(root, {STORE_FILE, *files}))
    for name, (expected, _) in files.items():
        findings.extend(compare_digest(root / name, expected, STORE_FILE))
    try:
        store = open_store(root, verify=False)
        if deep:
            findings.extend(_damaged_images(store))
    except (DamagedData, MissingData) as error:
        # A file that is gone or cut short has been named above already.
        if not findings:
            findings.append(Finding.of(root, error))
    return findings


def _damaged_images(store: ClassStore) -> Iterator[Finding]:
    table = read_manifest(store)
    columns = ("part", "class_name", "image", "row", "sha256")
    for part, class_name, image, row, expected in zip(
        *(table[name].to_pylist() for name in columns), strict=True
    ):
        got = local.sha256_bytes(store.parts[part].images[row].tobytes())
        if got != expected.hex():
            yield Finding(
                store.root / pixel_file(part),
                f"image {image!r} of class {class_name!r} (row {row}) is not what was written",
            )


def compare_digest(path: Path, expected: str, source: str) -> Iterator[Finding]:
    try:
        got = local.sha256_file(path)
    except MissingData as error:
        yield Finding.of(path, error)
        return
    if got != expected:
        yield Finding(path, f"its digest is {got}, {source} says {expected}")


def foreign_files(root: Path, expected: Iterable[str]) -> Iterator[Finding]:
    """Files that no writer of ours put there."""
    names = {path.name for path in root.iterdir() if not is_litter(path.name)}
    for name in sorted(names - set(expected)):
        yield Finding(root / name, "this file does not belong here")
