"""The one door to object stores: whole objects are put, got, listed and deleted.

Requests that a store does not answer are repeated with growing pauses until it does, for at most
METADIST_STORE_WAIT_S seconds (120). What comes back is compared with the digest it must have.
Credentials are those of the AWS environment and files, which pyarrow reads by itself.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data_pipeline import storage
from data_pipeline.errors import DamagedData, DataError, MissingData, StoreAway, StoreError
from data_pipeline.object_uri import Endpoint, bucket_and_key, endpoint

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds between two attempts: the first pause, doubled up to the last.
_PAUSES = (0.25, 4.0)
#: Seconds after which a connection, or a reply that does not go on, counts as failed.
_CONNECT_SECONDS, _REPLY_SECONDS = 5.0, 10.0
_BLOCK = 8 * 1024 * 1024
#: How often an object is got before bytes that are others than demanded count as its own.
_TRIES = 2
_CONNECTIONS = 8
#: What AWS and its likes call a request that would be refused again; anything else is repeated.
_REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNRECOGNIZED_CLIENT",
    "MISSING_AUTHENTICATION_TOKEN",
    "HTTP status 401",
    "HTTP status 403",
)
#: curl's numbers of a certificate or protocol that does not fit.
_NO_TLS = ("curlCode: 35,", "curlCode: 51,", "curlCode: 58,", "curlCode: 60,", "curlCode: 77,")


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
            with _filesystem(endpoint()).open_output_stream(self._path) as stream:
                stream.write(data)

        _patiently(self, act)

    def put_file(self, path: Path) -> str:
        """Make this object a file's content; return what the store calls its version (ETag).

        Raises:
            as :meth:`put`; OSError: the file cannot be read.
        """

        def act() -> None:
            with (
                _local(lambda: path.open("rb")) as file,
                _filesystem(endpoint()).open_output_stream(self._path) as stream,
            ):
                while block := _local(lambda: file.read(_BLOCK)):
                    stream.write(block)

        _patiently(self, act)
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
            with _filesystem(endpoint()).open_input_file(self._path) as stream:
                if stream.size() > storage.MAX_JSON_BYTES:
                    raise DamagedData(f"{self}: {stream.size()} bytes, a small object was expected")
                return bytes(stream.read())

        got = ""
        for _ in range(_TRIES):
            data = _patiently(self, act)
            if sha256 is None or (got := storage.sha256_bytes(data)) == sha256:
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
            with _filesystem(endpoint()).open_input_file(self._path) as stream:
                if size is not None and stream.size() != size:
                    raise DamagedData(f"{self}: {stream.size()} bytes, {size} were written")
                stream.seek(min(done, stream.size()))
                while block := stream.read(_BLOCK):
                    if file is not None:
                        _local(functools.partial(file.write, block))
                    digest.update(block)
                    done += len(block)

        _patiently(self, act)
        return digest.hexdigest(), done

    def version(self) -> str | None:
        """What the store calls the object's version (ETag); None if there is no such object."""

        def act() -> str:
            held = _filesystem(endpoint()).open_input_file(self._path).metadata()
            return bytes(held.get("ETag", b"")).decode(errors="replace")

        try:
            return _patiently(self, act)
        except MissingData:
            self.check_bucket()
            return None

    def objects(self) -> list[Found]:
        """All objects below, sorted by name.

        Raises:
            StoreError as :meth:`put`, also if there is no such bucket.
        """
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path, recursive=True, allow_not_found=True)
        infos = _patiently(self, lambda: _filesystem(endpoint()).get_file_info(selector))
        if not infos:
            self.check_bucket()
        start = len(self._path) + 1
        found = [
            Found(info.path[start:], info.size, info.mtime.timestamp())
            for info in infos
            if info.type == FileType.File
        ]
        return sorted(found, key=lambda one: one.name)

    def folders(self) -> list[str]:
        """Names of the prefixes directly below, sorted; raises as :meth:`objects`."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path, allow_not_found=True)
        infos = _patiently(self, lambda: _filesystem(endpoint()).get_file_info(selector))
        if not infos:
            self.check_bucket()
        return sorted(info.base_name for info in infos if info.type == FileType.Directory)

    def delete(self) -> None:
        """Remove the object, if it is there; raises as :meth:`put`."""
        with suppress(MissingData):
            _patiently(self, lambda: _filesystem(endpoint()).delete_file(self._path))

    def delete_below(self) -> None:
        """Remove everything below; raises as :meth:`put`."""
        with suppress(MissingData):
            _patiently(self, lambda: _filesystem(endpoint()).delete_dir(self._path))

    def check_bucket(self) -> None:
        """Raise unless the bucket is there: stores say of both that something is not found.

        Raises:
            MissingData: no such bucket. StoreError as :meth:`put`.
        """
        from pyarrow.fs import FileType

        info = _patiently(self, lambda: _filesystem(endpoint()).get_file_info(self.bucket))
        if info.type == FileType.NotFound:
            raise _no_bucket(self)


def object_place(path: Path) -> ObjectPlace | None:
    """What a local path is a working copy of; None if it is an ordinary path."""
    found = bucket_and_key(path)
    return None if found is None else ObjectPlace(*found)


def in_parallel(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make calls over several connections; the first error is raised when all have ended."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@dataclass
class _Waiting:
    """What the threads of this process know of a store that does not answer."""

    since: float | None = None
    gave_up: bool = False


_waiting = _Waiting()
_at_most = float("inf")
_waiting_lock = threading.Lock()


def seconds_away() -> float | None:
    """For how long the store has not answered this process; None if it does."""
    since = _waiting.since
    return None if since is None else time.monotonic() - since


def gave_up() -> bool:
    """Whether this process has ceased to wait for a store, which has not answered since."""
    return _waiting.gave_up


@contextmanager
def impatient(seconds: float) -> Iterator[None]:
    """Wait for a store for at most so long inside this block; for one that only looks."""
    global _at_most
    before, _at_most = _at_most, seconds
    try:
        yield
    finally:
        _at_most = before


def patience() -> float:
    """Seconds to wait for a store that does not answer.

    Raises:
        StoreError: METADIST_STORE_WAIT_S is no number.
    """
    given = os.environ.get("METADIST_STORE_WAIT_S", "120")
    try:
        return min(float(given), _at_most)
    except ValueError:
        raise StoreError(
            f"METADIST_STORE_WAIT_S: seconds are needed, as in 120, got {given!r}"
        ) from None


class _LocalError(Exception):
    """An error of the local disk amid a request; not the store's, so nothing is repeated."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _local(act: Callable[[], T]) -> T:
    """What the local disk has to do amid a request."""
    try:
        return act()
    except OSError as error:
        raise _LocalError(error) from None


def _patiently(place: ObjectPlace, act: Callable[[], T]) -> T:
    """Make a request until it succeeds, is refused, or the store was away for too long."""
    bound, began, pause = patience(), None, _PAUSES[0]
    while True:
        tried = time.monotonic()
        try:
            result = act()
        except _LocalError as error:
            raise error.cause from None
        except OSError as error:
            final = _explained(place, error)
            if final is not None:
                _answered()
                raise final from None
            began = tried if began is None else began
            _unanswered(began, error, bound)
            if _waiting.gave_up or time.monotonic() - began + pause > bound:
                _waiting.gave_up = True
                raise StoreAway(
                    f"{place}: {endpoint()} has not answered for "
                    f"{time.monotonic() - (_waiting.since or began):.0f} s ({_brief(error)}); see "
                    "that it can be reached (AWS_ENDPOINT_URL names it) and do the same again, or "
                    "wait longer with METADIST_STORE_WAIT_S"
                ) from None
            # Many processes lose a store at one moment; they need not all come back at one.
            time.sleep(pause * random.uniform(0.75, 1.0))
            pause = min(2 * pause, _PAUSES[1])
        else:
            _answered()
            return result


def _unanswered(began: float, error: OSError, bound: float) -> None:
    with _waiting_lock:
        if _waiting.since is not None:
            return
        _waiting.since = began
    logger.warning(
        "%s does not answer (%s); waiting for up to %.0f s", endpoint(), _brief(error), bound
    )


def _answered() -> None:
    with _waiting_lock:
        since, _waiting.since, _waiting.gave_up = _waiting.since, None, False
    if since is not None:
        logger.warning("%s answers again, after %.0f s", endpoint(), time.monotonic() - since)


def _explained(place: ObjectPlace, error: OSError) -> DataError | None:
    """What to raise instead of an error that a repetition would meet again; else None."""
    text = str(error)
    if "NO_SUCH_BUCKET" in text:
        return _no_bucket(place)
    if isinstance(error, FileNotFoundError):
        return MissingData(f"{place}: no such object")
    if any(word in text for word in _REFUSED):
        return StoreError(
            f"{place}: {endpoint()} denies access ({_brief(error)}); give credentials that may "
            "read, write, list and delete there, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "as AWS_PROFILE, or as the role of this machine"
        )
    if any(word in text for word in _NO_TLS):
        return StoreError(
            f"{place}: no encrypted connection to {endpoint()} ({_brief(error)}); name its "
            "certificate authority with AWS_CA_BUNDLE"
        )
    if "HTTP status 301" in text or "PERMANENT_REDIRECT" in text:
        return StoreError(
            f"{place}: the bucket is in another region than was asked ({_brief(error)}); name it "
            "with AWS_REGION"
        )
    return None


def _no_bucket(place: ObjectPlace) -> MissingData:
    return MissingData(
        f"{place}: {endpoint()} has no bucket {place.bucket!r}; make it first, or name another "
        "store with AWS_ENDPOINT_URL"
    )


def _brief(error: OSError) -> str:
    """The heart of an error of pyarrow's, without the request's numbers and details."""
    text = " ".join(str(error).split()).partition("AWS Error ")[2] or str(error)
    return text.partition(" (Request ID")[0].partition("; Details")[0][:200]


@functools.cache
def _filesystem(store: Endpoint) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    chosen: dict[str, Any] = {"region": region} if region else {}
    if store.host:
        # Another store than AWS rarely looks at the region; nobody is to be asked for it.
        chosen = {"region": "us-east-1", **chosen}
        chosen |= {"endpoint_override": store.host, "scheme": store.scheme}
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        chosen["tls_ca_file_path"] = bundle
    return S3FileSystem(
        # Repeating is ours: it has to be bounded in time and to be told of.
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REPLY_SECONDS,
        # Without a request that would first ask whether the bucket is there.
        allow_delayed_open=True,
        **chosen,
    )
