"""How an object store is asked: with which connection, for how long, and what its errors mean."""

from __future__ import annotations

import functools
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from data_pipeline.errors import DataError, MissingData, StoreAway, StoreError
from data_pipeline.storage.object_uri import Endpoint, endpoint
from data_pipeline.timeouts import seconds_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds between two attempts: the first pause, doubled up to the last.
_PAUSES = (0.25, 4.0)
#: Seconds after which a connection, or a reply that does not go on, counts as failed.
_CONNECT_SECONDS, _REPLY_SECONDS = 5.0, 10.0
#: What AWS and its likes call a request that would be refused again; anything else is repeated.
_REFUSED = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH|"
    "UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|HTTP status 40[13]"
)
#: curl's numbers of a certificate or protocol that does not fit.
_NO_TLS = re.compile("curlCode: (35|51|58|60|77),")


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
    return min(seconds_of("METADIST_STORE_WAIT_S", 120.0, StoreError), _at_most)


class _LocalError(Exception):
    """An error of the local disk amid a request; not the store's, so nothing is repeated."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def locally(act: Callable[[], T]) -> T:
    """What the local disk has to do amid a request."""
    try:
        return act()
    except OSError as error:
        raise _LocalError(error) from None


def patiently(place: object, act: Callable[[], T]) -> T:
    """Make a request until it succeeds, is refused, or the store was away for too long.

    Args:
        place: what it is about, for messages.
        act: makes the request; may be called again after it has failed half-way.

    Raises:
        MissingData: no such object or bucket. StoreError: it refuses. StoreAway: it was away.
    """
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


def _explained(place: object, error: OSError) -> DataError | None:
    """What to raise instead of an error that a repetition would meet again; else None."""
    text = str(error)
    if "NO_SUCH_BUCKET" in text:
        return no_bucket(place)
    if isinstance(error, FileNotFoundError):
        return MissingData(f"{place}: no such object")
    if _REFUSED.search(text):
        return StoreError(
            f"{place}: {endpoint()} denies access ({_brief(error)}); give credentials that may "
            "read, write, list and delete there, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "as AWS_PROFILE, or as the role of this machine"
        )
    if _NO_TLS.search(text):
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


def no_bucket(place: object) -> MissingData:
    """What to raise where the bucket of a place is not there."""
    bucket = str(place).removeprefix("s3://").partition("/")[0]
    return MissingData(
        f"{place}: {endpoint()} has no bucket {bucket!r}; make it first, or name another store "
        "with AWS_ENDPOINT_URL"
    )


def _brief(error: OSError) -> str:
    """The heart of an error of pyarrow's, without the request's numbers and details."""
    text = " ".join(str(error).split()).partition("AWS Error ")[2] or str(error)
    return text.partition(" (Request ID")[0].partition("; Details")[0][:200]


def filesystem() -> Any:
    """The store of this moment, as pyarrow's file system."""
    return _filesystem(endpoint())


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
