"""How an object store is asked: for how long, and what its errors mean."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from data_pipeline.errors import DataError, MissingData, StoreAway, StoreError
from data_pipeline.storage.object_uri import Endpoint
from data_pipeline.timeouts import seconds_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: Seconds between two attempts: the first pause, doubled up to the last.
_PAUSES = (0.25, 4.0)
#: The library's errors have a class for little more than what is not there; the rest stands in
#: their texts, as what the store has answered or why there was no answer.
_STATUS = re.compile(r"status code: (\d{3}[ \w]*)")
_ANSWER = re.compile(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>")
_CAUSE = re.compile(
    r'(?:Invalid(?:Certificate|Message)\W+(?:Other\w*\W+)*|(?:message|error): ")'
    r"([\w:;,'() -]*\w)|(TimedOut)"
)
_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist")
#: Where a machine is asked for its role, if no credentials were given.
_ROLE = re.compile("/latest/(api/token|meta-data)|/computeMetadata/|/metadata/identity/")
#: Said by a server that may do it later.
_LATER = re.compile("RequestTimeout|status code: (408|409|425|429)")
#: What would be refused again: what that means and how it is mended, by the sign of it.
_RIGHTS = "denies access|give credentials that may read, write, list and delete there, as {}"
_TRUST = "has no encrypted connection that is trusted|name its authority with AWS_CA_BUNDLE"
_REGION = "has the bucket in another region than was asked|name it with AWS_REGION"
_REFUSALS = {
    "status code: 40[13]": _RIGHTS,
    r"Invalid(Certificate|Message)\(": _TRUST,
    "status code: 301|AuthorizationHeaderMalformed|redirect without LOCATION": _REGION,
    r"status code: (4\d\d|501)": "refuses|see that it can do what it is asked",
}


@dataclass
class _Waiting:
    """What the threads of this process know of a store.

    Attributes:
        since: when it was asked what it has not answered.
        gave_up: whether this process has ceased to wait for it.
        answered: whether it ever did.
    """

    since: float | None = None
    gave_up: bool = False
    answered: bool = False


_stores: defaultdict[Endpoint, _Waiting] = defaultdict(_Waiting)
_at_most = float("inf")
_waiting_lock = threading.Lock()


def seconds_away() -> float | None:
    """For how long a store has not answered this process; None if all do."""
    since = [store.since for store in list(_stores.values()) if store.since is not None]
    return time.monotonic() - min(since) if since else None


def gave_up() -> bool:
    """Whether this process has ceased to wait for a store, which has not answered since."""
    return any(store.gave_up for store in list(_stores.values()))


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


def patiently(place: object, store: Endpoint, act: Callable[[], T]) -> T:
    """Make a request until it succeeds, is refused, or the store was away for too long.

    The library repeats nothing: that has to be bounded in time, and to be told of.

    Args:
        place: what it is about, for messages.
        store: who is asked.
        act: makes the request; may be called again after it has failed half-way.

    Raises:
        MissingData: no such object or bucket. StoreError: it refuses. StoreAway: it was away.
    """
    from obstore.exceptions import BaseError

    bound, began, pause = patience(), None, _PAUSES[0]
    waiting = _stores[store]
    while True:
        tried = time.monotonic()
        try:
            result = act()
        except (BaseError, FileNotFoundError) as error:
            final = _explained(place, store, error)
            if final is not None:
                _answered(store)
                raise final from None
            began = tried if began is None else began
            _unanswered(store, began, error, bound)
            if waiting.gave_up or time.monotonic() - began + pause > bound:
                waiting.gave_up = True
                raise StoreAway(
                    f"{place}: {store} has not answered for "
                    f"{time.monotonic() - (waiting.since or began):.0f} s ({brief(error)}); see "
                    f"that it can be reached ({store.service.variables[0]} names it) and do the "
                    "same again, or wait longer with METADIST_STORE_WAIT_S"
                ) from None
            # Many processes lose a store at one moment; they need not all come back at one.
            time.sleep(pause * random.uniform(0.75, 1.0))
            pause = min(2 * pause, _PAUSES[1])
        else:
            _answered(store)
            return result


def _unanswered(store: Endpoint, began: float, error: Exception, bound: float) -> None:
    with _waiting_lock:
        if _stores[store].since is not None:
            return
        _stores[store].since = began
    logger.warning("%s does not answer (%s); waiting for up to %.0f s", store, brief(error), bound)


def _answered(store: Endpoint) -> None:
    with _waiting_lock:
        waiting = _stores[store]
        since, waiting.since = waiting.since, None
        waiting.gave_up, waiting.answered = False, True
    if since is not None:
        logger.warning("%s answers again, after %.0f s", store, time.monotonic() - since)


def _explained(place: object, store: Endpoint, error: Exception) -> DataError | None:
    """What to raise instead of an error that a repetition would meet again; else None."""
    text = str(error)
    if _ROLE.search(text):
        # Who has been let in before waits: a machine may be slow to say its role anew.
        return None if _stores[store].answered else no_credentials(store, brief(error))
    if isinstance(error, FileNotFoundError) and not _NO_BUCKET.search(text):
        return MissingData(f"{place}: no such object")
    if "status code: 404" in text:
        bucket = str(place).partition("://")[2].partition("/")[0]
        return MissingData(
            f"{place}: {store} has no bucket {bucket!r}; make it first, or name another store "
            f"with {store.service.variables[-1]}"
        )
    for sign, meaning in _REFUSALS.items():
        if re.search(sign, text) and not _LATER.search(text):
            what, cure = meaning.format(store.service.credentials).split("|")
            return StoreError(f"{place}: {store} {what} ({brief(error)}); {cure}")
    from obstore.exceptions import GenericError

    generic = isinstance(error, GenericError)
    return None if generic else StoreError(f"{place}: {store} refuses ({brief(error)})")


def no_credentials(store: Endpoint, said: str) -> StoreError:
    """What to raise where nobody says who asks."""
    files = "; what ~/.aws says is read with boto3: pip install 'metadist[s3]'"
    return StoreError(
        f"{store}: no credentials ({' '.join(said.split())[:300]}); give them as "
        f"{store.service.credentials}{files if store.scheme == 's3' else ''}"
    )


def brief(error: Exception) -> str:
    """The heart of an error of the library's: what the store said, or why there was no answer."""
    text = str(error)
    if answer := _ANSWER.search(text):
        return f"{answer[1]}: {answer[2]}"[:200]
    if found := _STATUS.search(text) or _CAUSE.search(text):
        return str(next(filter(None, found.groups()))).strip()
    # Addresses may end in a signature.
    return re.sub(r"\?\S*", "", text.partition("\n")[0])[:200]
