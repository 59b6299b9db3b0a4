"""Names of places in an object store, and the local directories that are working copies of them.

``s3://bucket/prefix`` has its working copy at ``CACHE/s3/ENDPOINT/bucket/prefix``: the path says
what a directory is a copy of, on any node and without a note that could be lost.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from data_pipeline.errors import StoreError
from data_pipeline.storage.redaction import HIDDEN, without_users
from data_pipeline.storage.typed_paths import typed_path

SCHEME = "s3"
#: How AWS itself is called in paths of working copies.
_AWS = "aws"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: Parts of a prefix are directory names of working copies too; a leading dot is for our own files.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+@-]{0,127}")


@dataclass(frozen=True)
class Endpoint:
    """The store that is spoken to.

    Attributes:
        scheme: ``http`` or ``https``.
        host: ``host`` or ``host:port``; empty for AWS itself.
    """

    scheme: str
    host: str

    @property
    def folder(self) -> str:
        """Its name in paths."""
        return self.host.replace(":", "_") or _AWS

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}" if self.host else "AWS"


def endpoint() -> Endpoint:
    """AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL, else AWS itself.

    Raises:
        StoreError: it is not ``http(s)://host[:port]``, or holds credentials.
    """
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        given = os.environ.get(name)
        if not given:
            continue
        parts = _split(given, name)
        _refuse_credentials(parts, name)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise StoreError(f"{name}: http(s)://host[:port] is needed, got {redacted(given)!r}")
        return Endpoint(parts.scheme, parts.netloc)
    return Endpoint("https", "")


def is_uri(text: str) -> bool:
    """Whether a place is named by a URI and not by a path."""
    # pathlib folds the two slashes into one; who passed a URI through it must hear of it.
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


def parse_uri(text: str) -> tuple[str, tuple[str, ...]]:
    """Bucket and prefix of ``s3://bucket/prefix``.

    Raises:
        StoreError: another scheme, no bucket, credentials or a query, or a prefix that cannot be
            a path.
    """
    shown = redacted(text)
    parts = _split(text, "a place in an object store")
    if parts.scheme != SCHEME or not text.startswith(f"{SCHEME}://"):
        raise StoreError(f"{shown!r}: object stores are named s3://bucket/prefix")
    _refuse_credentials(parts, shown)
    if without_users(text) != text or ":" in parts.netloc:  # a secret key may hold a slash
        raise _credentials(f"{SCHEME}://{HIDDEN}")
    if parts.query or parts.fragment:
        raise StoreError(
            f"{shown!r}: a URI takes no options; the endpoint goes into AWS_ENDPOINT_URL, the "
            "region into AWS_REGION"
        )
    prefix = tuple(parts.path.strip("/").split("/")) if parts.path.strip("/") else ()
    if not _BUCKET.fullmatch(parts.netloc) or ".." in parts.netloc:
        raise StoreError(f"{shown!r}: {parts.netloc!r} cannot be a bucket")
    for part in prefix:
        if not _PART.fullmatch(part):
            raise StoreError(
                f"{shown!r}: {part!r} cannot be part of a prefix; letters, digits and '._=+@-' "
                "are allowed, not starting with a dot"
            )
    return parts.netloc, prefix


def redacted(text: str) -> str:
    """A URI without user, password and query, to be shown."""
    return re.sub(r"\?.*", f"?{HIDDEN}", without_users(text), flags=re.DOTALL)


def cache_directory() -> Path:
    """Where working copies lie: METADIST_CACHE_DIR, else ``metadist`` in the user's cache."""
    given = os.environ.get("METADIST_CACHE_DIR")
    if given:
        return typed_path(given).resolve()
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a container's user need not have a home
        home = tempfile.gettempdir()
    return (typed_path(home) / "metadist").resolve()


def working_copy(text: str) -> Path:
    """The local directory that stands for a URI on this node; it need not exist.

    Raises:
        StoreError: see :func:`parse_uri` and :func:`endpoint`.
        OSError: the cache directory cannot be made.
    """
    bucket, prefix = parse_uri(text)
    # What lies there is believed: nobody else may write it.
    cache_directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    return _copies().joinpath(bucket, *prefix)


def local_path(place: str | Path) -> Path:
    """The whole path of what was typed here, and the working copy of a URI.

    Raises:
        DataError: see :func:`typed_path`. StoreError: see :func:`working_copy`.
    """
    text = str(place)
    return working_copy(text) if is_uri(text) else typed_path(text).resolve()


def address_of(path: Path) -> str:
    """What names a place on every node: the URI of a working copy, else the path."""
    found = bucket_and_key(path)
    return str(path) if found is None else f"{SCHEME}://{'/'.join(found)}".rstrip("/")


def bucket_and_key(path: Path) -> tuple[str, str] | None:
    """What a path is a working copy of; None if it is an ordinary path."""
    try:
        inside = Path(os.path.abspath(path)).relative_to(_copies())
    except (ValueError, StoreError):
        return None
    bucket, *prefix = inside.parts or ("",)
    return (bucket, "/".join(prefix)) if bucket else None


def _copies() -> Path:
    return cache_directory() / SCHEME / endpoint().folder


def _split(text: str, what: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise StoreError(f"{what}: {redacted(text)!r} is no URI") from None


def _refuse_credentials(parts: SplitResult, what: str) -> None:
    if "@" in parts.netloc:
        raise _credentials(what)


def _credentials(what: str) -> StoreError:
    return StoreError(
        f"{what}: credentials do not belong into a URI, where every log shows them; give them as "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials"
    )
