"""The one door to object stores: whole objects are put, got, listed and deleted.

Requests that a store does not answer are repeated with growing pauses until it does, for at most
METADIST_STORE_WAIT_S seconds (120). What comes back is compared with the digest it must have.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from data_pipeline.errors import DamagedData, DataError, MissingData, StoreError
from data_pipeline.storage import local
from data_pipeline.storage.object_clients import client
from data_pipeline.storage.object_requests import patiently
from data_pipeline.storage.object_uri import Endpoint, place_of, uri

if TYPE_CHECKING:
    from obstore.store import ObjectStore

A = TypeVar("A")
T = TypeVar("T")
#: Bytes that are taken in at once; what has come so far is not got again where a reply breaks off.
_BLOCK = 1024 * 1024
#: Bytes of a part of a file that is put; more of a file that would have too many.
_PART, _MOST_PARTS = 8 * 1024 * 1024, 10_000
#: Parts of a file on their way at one moment; all of them are in memory.
_PARTS_AT_ONCE = 2
#: How often an object is got before bytes that are others than demanded count as its own.
_TRIES = 2
#: What the store keeps beside a file: its digest, which tells whether it need be put again.
_NOTE = "sha256"
#: How often an object is to be made that the store will not make, nor has.
_CONFLICTS = 8
_CONNECTIONS = 8
#: Seconds for a reply; and where as much is sent as takes its time on a slow line.
_REPLY_SECONDS, _UPLOAD_SECONDS, _MUCH = 10, 60, 1024 * 1024


@dataclass(frozen=True)
class Found:
    """An object in a listing.

    Attributes:
        name: below the place.
        size: in bytes.
        time: when the store received it, in seconds since 1970.
    """

    name: str
    size: int
    time: float


@dataclass(frozen=True)
class ObjectPlace:
    """An object, or what lies below a common prefix.

    Attributes:
        store: where it is.
        bucket: its bucket.
        key: the object's key, or the prefix without its last slash.
    """

    store: Endpoint
    bucket: str
    key: str

    def __truediv__(self, name: str) -> ObjectPlace:
        return ObjectPlace(self.store, self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return uri(self.store, self.bucket, self.key)

    def _ask(self, act: Callable[[ObjectStore], T], reply_seconds: int = _REPLY_SECONDS) -> T:
        def ask() -> T:
            return act(client(self.store, self.bucket, reply_seconds))

        return patiently(self, self.store, ask)

    def put(self, data: bytes) -> None:
        """Make or replace an object.

        Raises:
            StoreError: the store refuses, or was away for too long.
        """
        self._put(io.BytesIO(data), len(data))

    def put_file(self, path: Path, sha256: str = "") -> None:
        """Make or replace an object by a file's content.

        Args:
            sha256: its digest, if the store is to note it for :meth:`holds`.

        Raises:
            as :meth:`put`; OSError: the file cannot be read.
        """
        with path.open("rb") as file:
            self._put(file, path.stat().st_size, {_NOTE: sha256} if sha256 else None)

    def _put(self, file: BinaryIO, size: int, attributes: dict[str, str] | None = None) -> None:
        def act(store: ObjectStore) -> None:
            file.seek(0)
            store.put(
                self.key,
                file,
                attributes=attributes,
                use_multipart=size > _PART,
                chunk_size=max(_PART, -(-size // _MOST_PARTS)),
                max_concurrency=_PARTS_AT_ONCE,
            )

        self._ask(act, _UPLOAD_SECONDS if size > _MUCH else _REPLY_SECONDS)

    def holds(self, sha256: str) -> bool:
        """Whether :meth:`put_file` has put an object with this digest; raises as :meth:`put`."""
        with suppress(MissingData):
            found = self._ask(lambda store: store.get(self.key, options={"head": True}))
            return found.attributes.get(_NOTE) == sha256
        return False

    def create(self, data: bytes) -> bool:
        """Make an object where there is none; whether what is there now are these bytes.

        Of several who try at once the store lets one succeed. Who was not told of its success knows
        its bytes again: nobody else must use the same.

        Raises:
            as :meth:`put`; also if the store makes an object where one is already.
        """
        from obstore.exceptions import AlreadyExistsError

        def act(store: ObjectStore) -> bool:
            try:
                store.put(self.key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

        for _ in range(_CONFLICTS):
            if self._ask(act) and self._ask(act):
                raise StoreError(
                    f"{self}: {self.store} puts an object where one is already, though it is asked "
                    "not to (If-None-Match: *), so that two processes could write to one run; take "
                    "a newer version of it, another store, or a path for runs"
                )
            # Some refuse whom another is just before, too, and nothing comes of either.
            with suppress(MissingData):
                return self.get() == data
        raise StoreError(f"{self}: {self.store} makes no object there, though there is none")

    def get(self, sha256: str | None = None) -> bytes:
        """The bytes of an object, which must be small: at most 64 MiB.

        Args:
            sha256: the digest that they must have, if it is known.

        Raises:
            MissingData: no such object. DamagedData: its bytes are others. StoreError as
            :meth:`put`.
        """

        def act(store: ObjectStore) -> bytes:
            found = store.get(self.key)
            if found.meta["size"] > local.MAX_JSON_BYTES:
                raise DamagedData(
                    f"{self}: {found.meta['size']} bytes, a small object was expected"
                )
            return bytes(found.bytes())

        got = ""
        for _ in range(_TRIES):
            data = self._ask(act)
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

    def _copy(self, file: BinaryIO | None, size: int | None = None) -> tuple[str, int]:
        digest, done, whole = hashlib.sha256(), 0, -1

        def act(store: ObjectStore) -> None:
            # An attempt that breaks off is continued where it was; the digest tells if that fits.
            nonlocal done, whole
            if done == whole:
                return
            found = store.get(self.key, options={"range": {"offset": done}} if done else None)
            whole = found.meta["size"]
            if size is not None and whole != size:
                raise DamagedData(f"{self}: {whole} bytes, {size} were written")
            for block in found.stream(_BLOCK):
                if file is not None:
                    file.write(block)
                digest.update(block)
                done += len(block)

        self._ask(act)
        return digest.hexdigest(), done

    def objects(self) -> list[Found]:
        """All objects below, sorted by name.

        Raises:
            StoreError as :meth:`put`, also if there is no such bucket.
        """
        start = f"{self.key}/" if self.key else ""
        found = [
            Found(
                meta["path"][len(start) :],
                meta["size"],
                meta["last_modified"].timestamp(),
            )
            for meta in self._ask(lambda store: store.list(self.key).collect())
            if meta["path"].startswith(start)  # not the mark of an empty folder
        ]
        return sorted(found, key=lambda one: one.name)

    def folders(self) -> list[str]:
        """Names of the prefixes directly below, sorted; raises as :meth:`objects`."""
        found = self._ask(lambda store: store.list_with_delimiter(self.key))
        return sorted(prefix.rpartition("/")[2] for prefix in found["common_prefixes"])

    def delete(self) -> None:
        """Remove the object, if it is there; raises as :meth:`put`."""
        with suppress(MissingData):
            self._ask(lambda store: store.delete(self.key))

    def delete_below(self) -> None:
        """Remove everything below; raises as :meth:`put`."""
        names = [f"{self.key}/{found.name}" for found in self.objects()]
        with suppress(MissingData):
            self._ask(lambda store: store.delete(names))

    def check_bucket(self) -> None:
        """Raise unless the bucket is there: stores say of both that something is not found.

        Raises:
            MissingData: no such bucket. StoreError as :meth:`put`.
        """
        self._ask(lambda store: next(iter(store.list(self.key, chunk_size=1)), None))


def object_place(path: Path) -> ObjectPlace | None:
    """What a local path is a working copy of; None if it is an ordinary path."""
    found = place_of(path)
    return None if found is None else ObjectPlace(*found)


def in_parallel(act: Callable[[A], T], things: Iterable[A]) -> list[T]:
    """Act on each over several connections; the first error is raised when all have ended."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return [future.result() for future in [pool.submit(act, thing) for thing in things]]
