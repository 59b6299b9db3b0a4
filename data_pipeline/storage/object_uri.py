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
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from data_pipeline.errors import StoreError
from data_pipeline.storage.redaction import HIDDEN, without_users
from data_pipeline.storage.typed_paths import typed_path


class Service(NamedTuple):
    """What is spoken by the stores of a scheme.

    Attributes:
        name: of the store that is meant if no other is named.
        folder: its name in paths of working copies.
        variables: name another store.
        credentials: where they are looked for, for errors.
    """

    name: str
    folder: str
    variables: tuple[str, ...]
    credentials: str


SERVICES = {
    "s3": Service(
        "AWS",
        "aws",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as AWS_PROFILE, or as the role of this "
        "machine",
    ),
    "gs": Service(
        "Google Cloud Storage",
        "google",
        ("GOOGLE_BASE_URL",),
        "GOOGLE_APPLICATION_CREDENTIALS, by gcloud auth application-default login, or as the "
        "service account of this machine",
    ),
    "az": Service(
        "Azure",
        "azure",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, as AZURE_CLIENT_ID with "
        "AZURE_CLIENT_SECRET and AZURE_TENANT_ID, or as the identity of this machine",
    ),
}
#: How places are named, for errors.
NAMED = "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
#: Parts of a prefix are directory names of working copies too; a leading dot is for our own files.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+@-]{0,127}")


@dataclass(frozen=True)
class Endpoint:
    """The store that is spoken to.

    Attributes:
        scheme: one of :data:`SERVICES`.
        url: ``http(s)://host[:port]``; empty for the store that is meant if no other is named.
    """

    scheme: str
    url: str

    @property
    def service(self) -> Service:
        """What it speaks."""
        return SERVICES[self.scheme]

    @property
    def folder(self) -> str:
        """Its name in paths."""
        return self.url.partition("://")[2].replace(":", "_") or self.service.folder

    def __str__(self) -> str:
        return self.url or self.service.name


def endpoint(scheme: str = "s3") -> Endpoint:
    """The store that the environment names: for ``s3`` AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL.

    Raises:
        StoreError: it is not ``http(s)://host[:port]``, or holds credentials; or the account of a
            place in Azure is not named.
    """
    for name in SERVICES[scheme].variables:
        given = os.environ.get(name)
        if not given:
            continue
        parts = _split(given, name)
        if "@" in parts.netloc:
            raise _credentials(name, scheme)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise StoreError(f"{name}: http(s)://host[:port] is needed, got {redacted(given)!r}")
        return Endpoint(scheme, f"{parts.scheme}://{parts.netloc}")
    if scheme != "az":
        return Endpoint(scheme, "")
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not re.fullmatch("[a-z0-9]{3,24}", account):
        raise StoreError(
            "az://container/prefix: AZURE_STORAGE_ACCOUNT_NAME must name the account that has the "
            f"container, got {account!r}"
        )
    return Endpoint(scheme, f"https://{account}.blob.core.windows.net")


def is_uri(text: str) -> bool:
    """Whether a place is named by a URI and not by a path."""
    # pathlib folds the two slashes into one; who passed a URI through it must hear of it.
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


def parse_uri(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Scheme, bucket and prefix of ``s3://bucket/prefix``, ``gs://…`` or ``az://…``.

    Raises:
        StoreError: another scheme, no bucket, credentials or a query, or a prefix that cannot be
            a path.
    """
    shown = redacted(text)
    parts = _split(text, "a place in an object store")
    scheme = parts.scheme
    if scheme not in SERVICES or not text.startswith(f"{scheme}://"):
        raise StoreError(f"{shown!r}: object stores are named {NAMED}")
    # A secret key may hold a slash.
    if without_users(text) != text or "@" in parts.netloc or ":" in parts.netloc:
        raise _credentials(shown if "@" in parts.netloc else f"{scheme}://{HIDDEN}", scheme)
    if parts.query or parts.fragment:
        raise StoreError(
            f"{shown!r}: a URI takes no options; the endpoint goes into "
            f"{SERVICES[scheme].variables[0]}, the region into AWS_REGION"
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
    return scheme, parts.netloc, prefix


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
    scheme, bucket, prefix = parse_uri(text)
    # What lies there is believed: nobody else may write it.
    cache_directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    return cache_directory().joinpath(scheme, endpoint(scheme).folder, bucket, *prefix)


def local_path(place: str | Path) -> Path:
    """The whole path of what was typed here, and the working copy of a URI.

    Raises:
        DataError: see :func:`typed_path`. StoreError: see :func:`working_copy`.
    """
    text = str(place)
    return working_copy(text) if is_uri(text) else typed_path(text).resolve()


def address_of(path: Path) -> str:
    """What names a place on every node: the URI of a working copy, else the path."""
    found = place_of(path)
    return str(path) if found is None else uri(*found)


def uri(store: Endpoint, bucket: str, key: str) -> str:
    """What people type to name a place."""
    return f"{store.scheme}://{bucket}/{key}".rstrip("/")


def place_of(path: Path) -> tuple[Endpoint, str, str] | None:
    """Store, bucket and key that a path is a working copy of; None if it is an ordinary path."""
    try:
        scheme, folder, bucket, *prefix = (
            Path(os.path.abspath(path)).relative_to(cache_directory()).parts
        )
        store = endpoint(scheme)
    except (ValueError, KeyError, StoreError):
        return None
    return (store, bucket, "/".join(prefix)) if folder == store.folder else None


def _split(text: str, what: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise StoreError(f"{what}: {redacted(text)!r} is no URI") from None


def _credentials(what: str, scheme: str) -> StoreError:
    return StoreError(
        f"{what}: credentials do not belong into a URI, where every log shows them; give them as "
        f"{SERVICES[scheme].credentials}"
    )
