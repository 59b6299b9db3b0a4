"""The 32,460 drawings of Omniglot as PNG bytes: found, read with limits, verified by content.

Archives of the same drawings differ in their time stamps, so it is not an archive's digest that
decides but that of its contents: SHA-256 over the sorted relative paths, each followed by a NUL
byte and the SHA-256 of the PNG.
"""

from __future__ import annotations

import hashlib
import logging
import struct
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from itertools import islice
from pathlib import Path, PurePosixPath

from data_pipeline.datasets._omniglot_classes import ALPHABETS, DRAWERS, Alphabet
from data_pipeline.datasets._tables import only_parquet, read_parquet
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData, listed
from data_pipeline.formats.images import read_bytes
from data_pipeline.storage import local
from data_pipeline.storage.folders import files_below, is_litter

logger = logging.getLogger(__name__)

HOME = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
CONTENT_SHA256 = "5accf8ba2c5718fb0dfea7b66b35a4be8553a8d50f6e865b8157e919163a3f57"
SETS = ("background", "evaluation")
#: The largest drawing has 522 bytes, the larger original archive 10 MB.
MAX_PNG_BYTES = 4096
MAX_ARCHIVE_BYTES = 64 * 1024 * 1024
# What zipfile raises on damaged, encrypted or hostile archives.
_DAMAGE = zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError

#: Path and bytes of each drawing; the argument is told what was passed over.
Reader = Callable[[list[str]], Iterator[tuple[str, bytes]]]


def read_drawings(source: Path) -> tuple[dict[str, bytes], list[str]]:
    """All drawings, verified: path in the original archives -> PNG bytes.

    Beside them, what was passed over, such as ``__MACOSX`` and ``._*``.

    Args:
        source: a folder with the two original archives, with their extracted folders, with the
            50 alphabets side by side, or with one Parquet file of PNGs; or such a file.

    Raises:
        MissingData: nothing of that kind is there, or a drawing is missing; it is named.
        DamagedData: a file is no archive, or a drawing is not the published one; it is named.
        UnsafeData: a member climbs out of its archive, or something is far too large.
    """
    drawings: dict[str, bytes] = {}
    litter: list[str] = []
    for path, data in _entries(source, litter):
        if path in drawings:
            raise DamagedData(f"{source}: {path} is there twice")
        drawings[path] = data
    _verify(source, drawings)
    return drawings, litter


def download(target: Path) -> Path:
    """Fetch the two original archives into the folder ``target`` and verify their contents.

    Does nothing if ``target`` holds them already. It appears only when it is complete.

    Raises:
        DataError: their home cannot be reached.
        DamagedData, MissingData: what arrived is not Omniglot.
    """
    if target.exists():
        read_drawings(target)
        return target
    with local.new_directory(target) as folder:
        for name in (f"images_{published}.zip" for published in SETS):
            _fetch(f"{HOME}/{name}", folder / name)
        read_drawings(folder)
    return target


def _fetch(url: str, path: Path) -> None:
    logger.info("fetching %s", url)
    try:
        with urllib.request.urlopen(url, timeout=60) as reply, path.open("wb") as file:
            data = reply.read(MAX_ARCHIVE_BYTES + 1)
            file.write(data)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise DataError(
            f"{url}: could not be fetched ({error}). Without a connection, copy "
            "images_background.zip and images_evaluation.zip here by other means and name their "
            "folder: `metadist data prepare omniglot --source PATH`"
        ) from error
    if len(data) > MAX_ARCHIVE_BYTES:
        raise UnsafeData(f"{url}: sends more than {MAX_ARCHIVE_BYTES} bytes, not Omniglot's")


def _entries(source: Path, litter: list[str]) -> Iterator[tuple[str, bytes]]:
    if source.is_file():
        yield from _parquet_entries(source)
        return
    if not source.is_dir():
        raise MissingData(f"{source}: no such file or folder")
    readers = {published: _find_set(source, published) for published in SETS}
    absent = [published for published, reader in readers.items() if reader is None]
    parquet = only_parquet(source) if absent else None
    if parquet is not None:
        yield from _parquet_entries(parquet)
    elif absent:
        wanted = " and ".join(f"images_{published}" for published in absent)
        found = ", ".join(islice(sorted(p.name for p in source.iterdir()), 8)) or "nothing"
        raise MissingData(
            f"{source}: no {wanted} (.zip or folder), nor the alphabets side by side, nor a "
            f"Parquet file of PNGs; it holds {found}"
        )
    for reader in readers.values():
        if reader is not None and parquet is None:
            yield from reader(litter)


def _find_set(source: Path, published: str) -> Reader | None:
    archive = source / f"images_{published}.zip"
    if archive.is_file():
        return lambda litter: _zip_entries(archive, litter)
    alphabets = [a for a in ALPHABETS if a.published == published]
    for folder in (source / f"images_{published}", source):
        if any((folder / a.name).is_dir() for a in alphabets):
            return lambda litter: _tree_entries(folder, alphabets, litter)
    return None


def _tree_entries(
    folder: Path, alphabets: list[Alphabet], litter: list[str]
) -> Iterator[tuple[str, bytes]]:
    for alphabet in alphabets:
        top = f"images_{alphabet.published}/{alphabet.name}"
        for relative, path in files_below(folder / alphabet.name, litter):
            if relative.endswith(".png"):
                yield f"{top}/{relative}", read_bytes(path, MAX_PNG_BYTES)


def _zip_entries(archive: Path, litter: list[str]) -> Iterator[tuple[str, bytes]]:
    if archive.stat().st_size > MAX_ARCHIVE_BYTES:
        raise UnsafeData(f"{archive}: larger than {MAX_ARCHIVE_BYTES} bytes, not Omniglot's")
    member = ""
    try:
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                # The name as it stands in the archive: zipfile itself cuts it at a NUL byte.
                member = info.orig_filename
                if member.startswith("/") or ".." in member.split("/") or "\\" in member:
                    raise UnsafeData(f"{archive}: member {member!r} would lie outside the archive")
                if any(map(is_litter, PurePosixPath(member).parts)):
                    litter.append(f"{archive}: {member}")
                    continue
                if not member.endswith(".png"):
                    continue
                if info.file_size > MAX_PNG_BYTES:
                    raise UnsafeData(
                        f"{archive}: member {member!r} unpacks to {info.file_size} bytes, at most "
                        f"{MAX_PNG_BYTES} are accepted"
                    )
                with file.open(info) as handle:
                    yield member, handle.read(MAX_PNG_BYTES + 1)
    except _DAMAGE as error:
        where = f"{archive}: member {member!r}" if member else str(archive)
        raise DamagedData(f"{where}: cannot be unpacked ({error})") from None


def _parquet_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    columns = ("set", "alphabet", "character", "char_id", "drawer", "png")
    table = read_parquet(path, columns, max_bytes=MAX_ARCHIVE_BYTES)
    for published, alphabet, character, number, drawer, png in zip(
        *(table[name].to_pylist() for name in columns), strict=True
    ):
        if not isinstance(png, bytes) or len(png) > MAX_PNG_BYTES:
            raise DamagedData(f"{path}: {alphabet}/{character}, drawer {drawer}: not a small PNG")
        yield f"images_{published}/{alphabet}/{character}/{number:04}_{drawer:02}.png", png


def _verify(source: Path, drawings: dict[str, bytes]) -> None:
    expected = {
        alphabet.path(character, drawer)
        for alphabet in ALPHABETS
        for character in range(1, alphabet.characters + 1)
        for drawer in range(1, DRAWERS + 1)
    }
    if missing := expected - drawings.keys():
        raise MissingData(
            f"{source}: {len(missing)} drawings are missing: {listed(sorted(missing))}"
        )
    if surplus := drawings.keys() - expected:
        raise DamagedData(f"{source}: not drawings of Omniglot: {listed(sorted(surplus))}")
    digests = {path: hashlib.sha256(data).digest() for path, data in drawings.items()}
    whole = hashlib.sha256()
    for path in sorted(digests):
        whole.update(path.encode() + b"\0" + digests[path])
    if whole.hexdigest() != CONTENT_SHA256:
        altered = listed(sorted(_altered(digests)))
        raise DamagedData(
            f"{source}: not the published drawings: {altered}. Copy Omniglot again; its contents' "
            f"digest is {whole.hexdigest()}, {CONTENT_SHA256} expected"
        )


def _altered(digests: dict[str, bytes]) -> set[str]:
    """Drawings whose character and whose drawer both have another fingerprint than published.

    One altered drawing is found exactly; several may accuse others of the same alphabet.
    """
    altered = set()
    for alphabet in ALPHABETS:
        characters = range(1, alphabet.characters + 1)
        drawers = range(1, DRAWERS + 1)
        table = {(c, d): digests[alphabet.path(c, d)] for c in characters for d in drawers}
        wrong_characters = [
            c
            for c, print_ in zip(characters, alphabet.by_character, strict=True)
            if _fingerprint(table[c, d] for d in drawers) != print_
        ]
        wrong_drawers = [
            d
            for d, print_ in zip(drawers, alphabet.by_drawer, strict=True)
            if _fingerprint(table[c, d] for c in characters) != print_
        ]
        altered |= {alphabet.path(c, d) for c in wrong_characters for d in wrong_drawers}
    return altered


def _fingerprint(digests: Iterator[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()[:8]
