"""With which connection and as whom an object store is asked.

The library reads the environment by itself, and what a machine says of its role. What stands in the
files of AWS (profiles, roles to assume, single sign-on, processes) is read with boto3.
"""

from __future__ import annotations

import functools
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.errors import StoreError
from data_pipeline.storage.object_requests import brief, no_credentials
from data_pipeline.storage.object_uri import Endpoint

if TYPE_CHECKING:
    from obstore.store import ObjectStore

#: Seconds after which a connection counts as failed.
_CONNECT_SECONDS = 5
#: What is said in the environment of who asks whom, and where.
_SAID = ("AWS_", "GOOGLE_", "AZURE_", "HOME", "METADIST_CACHE_DIR")
_forked = False


def client(store: Endpoint, bucket: str, reply_seconds: int) -> ObjectStore:
    """A bucket, as the environment of this moment says.

    Args:
        reply_seconds: after so long a request, or a reply that does not go on, counts as failed.

    Raises:
        StoreError: no credentials, or a setting is wrong; or this process was forked.
    """
    if _forked:
        raise StoreError(
            f"{store}: this process was forked from one that had spoken to an object store, whose "
            "connections do not outlive that; start it with the method spawn or forkserver"
        )
    said = frozenset((k, v) for k, v in os.environ.items() if k.startswith(_SAID))
    return _client(store, bucket, reply_seconds, said)


def _after_fork() -> None:
    global _forked
    _forked = _client.cache_info().currsize > 0


os.register_at_fork(after_in_child=_after_fork)


@functools.lru_cache(maxsize=64)
def _client(
    store: Endpoint, bucket: str, reply_seconds: int, said: frozenset[tuple[str, str]]
) -> ObjectStore:
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    options: dict[str, Any] = {
        "connect_timeout": f"{_CONNECT_SECONDS}s",
        "read_timeout": f"{reply_seconds}s",
        "timeout": "1d",  # of the whole, which may be large
        "allow_http": store.url.startswith("http://"),
    }
    how: dict[str, Any] = {"client_options": options, "retry_config": {"max_retries": 0}}
    if store.url:
        how["base_url" if store.scheme == "gs" else "endpoint"] = store.url
    if store.scheme == "s3":
        provider = _aws_credentials(store, said)
        how |= {
            "credential_provider": provider,
            # Other stores than AWS rarely look at it; nobody is to be asked for it.
            "region": os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or getattr(provider, "config", {}).get("region", "us-east-1"),
            # Not every store can delete several at once, nor does an error say what became of each.
            "disable_bulk_delete": True,
        }
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            try:
                options["root_certificate"] = Path(bundle).read_bytes()
            except OSError as error:
                raise StoreError(f"AWS_CA_BUNDLE: {error}") from None
    try:
        kinds: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
        made: ObjectStore = kinds[store.scheme](bucket, **how)
    except BaseError as error:
        raise StoreError(f"{store}: {brief(error)}") from None
    return made


@functools.lru_cache(maxsize=64)
def _aws_credentials(store: Endpoint, said: frozenset[tuple[str, str]]) -> Any:
    """Asks boto3 who we are; None where the library sees it in the environment by itself."""
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_SKIP_SIGNATURE"):
        return None
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        if profile := os.environ.get("AWS_PROFILE"):
            raise StoreError(
                f"AWS_PROFILE={profile}: profiles are read with boto3, which is not there; "
                "pip install 'metadist[s3]'"
            ) from None
        return None
    try:
        # boto3 knows when credentials expire and gets new ones in time: none are kept beside it.
        provider = Boto3CredentialProvider(ttl=timedelta(0))
        provider()
    except ValueError:
        raise no_credentials(store, "neither the environment nor a file has any") from None
    except (BotoCoreError, ClientError) as error:
        raise no_credentials(store, str(error)) from None
    return provider
