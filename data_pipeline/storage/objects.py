"""The one door to object stores: whole objects are put, got, listed and deleted.

Requests that a store does not answer are repeated with growing pauses until it does, for at most
METADIST_STORE_WAIT_S seconds (120). What comes back is compared with the digest it must have.
Credentials are those of the AWS environment and files, which pyarrow reads by itself.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.storage.object_requests import filesystem, locally, no_bucket, patiently
from data_pipeline.storage.object_uri import bucket_and_key

T = TypeVar("T")
_BLOCK = 8 * 1024 * 1024
#: How often an object is got before bytes that are others than demanded count as its own.
_TRIES = 2
_CONNECTIONS = 8


@dataclass(frozen=True)
class Found:
    """An object in a listing: its name below the place, size, and when the store received it."""

    name: str
    size: int
    time: float


@dataclass(frozen=True)
class ObjectPlace:
    """An object, or what lies below a common prefix.

    Attributes:
        bucket: its bucket.
        key: the object's key, or the prefix without its last slash.
    """

    bucket: str
    key: str

    def __truediv__(self, name: str) -> ObjectPlace:
        return ObjectPlace(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    @property
    def _path(self) -> str:
        return f"{self.bucket}/{self.key}".rstrip("/")

    def put(self, data: bytes) -> None:
        """Make this object ``data``; it appears whole or not at all.

        Raises:
            StoreError: the store refuses. StoreAway: it does not answer.
        """

        def act() -> None:
            with filesystem().open_output_stream(self._path) as stream:
                stream.write(data)

        patiently(self, act)

    def put_file(self, path: Path) -> str:
        """Make this object a file's content; return what the store calls its version (ETag).

        Raises:
            as :meth:`put`; OSError: the file cannot be read.
        """

        def act() -> None:
            with (
                locally(lambda: path.open("rb")) as file,
                filesystem().open_output_stream(self._path) as stream,
            ):
                while block := locally(lambda: file.read(_BLOCK)):
                    stream.write(block)

        patiently(self, act)
        return self.version() or ""

    def get(self, sha256: str | None = None) -> bytes:
        """The bytes of an object, which must be small: at most 64 MiB.

        Args:
            sha256: the digest that they must have, if it is known.

        Raises:
            MissingData: no such object. DamagedData: its bytes are others. StoreError as
            :meth:`put`.
        """

        def act() -> bytes:
            with filesystem().open_input_file(self._path) as stream:
                if stream.size() > local.MAX_JSON_BYTES:
                    raise DamagedData(f"{self}: {stream.size()} bytes, a small object was expected")
                return bytes(stream.read())

        got = ""
        for _ in range(_TRIES):
            data = patiently(self, act)
            if sha256 is None or (got := local.sha256_bytes(data)) == sha256:
                return data
        raise DamagedData(f"{self}: its digest is {got}, {sha256} was written")

    def get_file(self, path: Path, sha256: str, size: int | None = None) -> None:
        """Write the object to a new file.

        Raises:
            as :meth:`get`; OSError: the file cannot be written.
        """
        found = ""
        try:
            for _ in range(_TRIES):
                with path.open("wb") as file:
                    found = self._copy(file, size)[0]
                if found == sha256:
                    return
            raise DamagedData(f"{self}: its digest is {found}, {sha256} was written")
        except DataError:
            path.unlink()
            raise

    def digest(self) -> tuple[str, int]:
        """Digest and size of what the store holds now; raises as :meth:`get`."""
        return self._copy(None)

    def _copy(self, file: Any, size: int | None = None) -> tuple[str, int]:
        digest, done = hashlib.sha256(), 0

        def act() -> None:
            # An attempt that breaks off is continued where it was; the digest tells if that fits.
            nonlocal done
            with filesystem().open_input_file(self._path) as stream:
                if size is not None and stream.size() != size:
                    raise DamagedData(f"{self}: {stream.size()} bytes, {size} were written")
                stream.seek(min(done, stream.size()))
                while block := stream.read(_BLOCK):
                    if file is not None:
                        locally(functools.partial(file.write, block))
                    digest.update(block)
                    done += len(block)

        patiently(self, act)
        return digest.hexdigest(), done

    def version(self) -> str | None:
        """What the store calls the object's version (ETag); None if there is no such object."""

        def act() -> str:
            held = filesystem().open_input_file(self._path).metadata()
            return bytes(held.get("ETag", b"")).decode(errors="replace")

        try:
            return patiently(self, act)
        except MissingData:
            self.check_bucket()
            return None

    def objects(self) -> list[Found]:
        """All objects below, sorted by name.

        Raises:
            StoreError as :meth:`put`, also if there is no such bucket.
        """
        start = len(self._path) + 1
        found = [
            Found(info.path[start:], info.size, info.mtime.timestamp())
            for info in self._listed(recursive=True)
            if info.is_file
        ]
        return sorted(found, key=lambda one: one.name)

    def folders(self) -> list[str]:
        """Names of the prefixes directly below, sorted; raises as :meth:`objects`."""
        listed = self._listed(recursive=False)
        return sorted(info.base_name for info in listed if not info.is_file)

    def _listed(self, recursive: bool) -> list[Any]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self._path, recursive=recursive, allow_not_found=True)
        infos = patiently(self, lambda: filesystem().get_file_info(selector))
        if not infos:
            self.check_bucket()
        return list(infos)

    def delete(self) -> None:
        """Remove the object, if it is there; raises as :meth:`put`."""
        with suppress(MissingData):
            patiently(self, lambda: filesystem().delete_file(self._path))

    def delete_below(self) -> None:
        """Remove everything below; raises as :meth:`put`."""
        with suppress(MissingData):
            patiently(self, lambda: filesystem().delete_dir(self._path))

    def check_bucket(self) -> None:
        """Raise unless the bucket is there: stores say of both that something is not found.

        Raises:
            MissingData: no such bucket. StoreError as :meth:`put`.
        """
        from pyarrow.fs import FileType

        info = patiently(self, lambda: filesystem().get_file_info(self.bucket))
        if info.type == FileType.NotFound:
            raise no_bucket(self)


def object_place(path: Path) -> ObjectPlace | None:
    """What a local path is a working copy of; None if it is an ordinary path."""
    found = bucket_and_key(path)
    return None if found is None else ObjectPlace(*found)


def in_parallel(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make calls over several connections; the first error is raised when all have ended."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
