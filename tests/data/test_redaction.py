"""No user and no password of a URI is shown, whatever it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.errors import StoreError
from data_pipeline.storage.object_uri import parse_uri, redacted
from data_pipeline.storage.redaction import without_users
from metadist.errors import JobError
from metadist.jobs import secrets
from metadist.track import public_uri
from metadist.track.client import brief

SECRETS = {
    "s3://AKIAX:wJalr/K7MDENG/bPxRf@bucket/runs": "s3://***@bucket/runs",
    "s3://AKIAX:p@ss/w@rd@bucket/runs": "s3://***@bucket/runs",
    "s3://K:p@ss@bucket/x": "s3://***@bucket/x",
    "postgresql://me:pa/ss@db/mlflow": "postgresql://***@db/mlflow",
    "postgresql://me:12/ss@db:5432/mlflow": "postgresql://***@db:5432/mlflow",
    "mysql+pymysql://:pa/ss@db/mlflow": "mysql+pymysql://***@db/mlflow",
    "https://me:pa/ss@host:5000/x": "https://***@host:5000/x",
    "https://me:pass@host": "https://***@host",
    "https://token@host/x": "https://***@host/x",
}
PLAIN = (
    "http://host:5000/a@b",
    "http://host:5000/#/experiments/1@2",
    "https://host/a@b",
    "s3://bucket/a@b",
    "s3://bucket/a:b",
    "sqlite:////home/me:you/x@y.db",
    "postgresql://db:5432/mlflow",
    "http://127.0.0.1:8265: it does not answer; ask me@example.org",
)


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_hidden(text: str, shown: str) -> None:
    for hide in (without_users, redacted, secrets.redacted, public_uri):
        assert hide(text) == shown
    told = f"at https://x.y/z : {text} refused, as was {text}"
    assert without_users(told) == f"at https://x.y/z : {shown} refused, as was {shown}"
    assert brief(OSError(f"file {told}")) == f"file {without_users(told)}"
    with pytest.raises(JobError, match="a user, password or token stands in a URI"):
        secrets.check_words(["train", f"--runs-dir={text}"], {})


@pytest.mark.parametrize("text", PLAIN)
def test_not_hidden(text: str) -> None:
    assert without_users(text) == text
    assert secrets.redacted(text) == text
    assert public_uri(text) == text


@pytest.mark.parametrize(
    "uri",
    [*(text for text in SECRETS if text.startswith("s3:")), "s3://AKIAX:wJalr/K7MD", "s3://A:B"],
)
def test_no_place_holds_credentials(uri: str) -> None:
    with pytest.raises(StoreError, match="credentials do not belong into a URI") as caught:
        parse_uri(uri)
    for part in ("AKIAX", "wJalr", "K7MD", "p@ss", "A:B"):
        assert part not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("DB_PASSWORD", "correcthorse", True),
        ("DB_PASSWORD", "8675309867", True),
        ("API_TOKEN", "86753098675309", True),
        ("API_TOKEN", "a1b2c3d4e5", True),
        ("TOKEN_LIFETIME", "1000000000", False),
        ("SECRET_BACKEND", "kubernetes", False),
    ],
)
def test_values_that_are_looked_for(name: str, value: str, found: bool, tmp_path: Path) -> None:
    assert bool(secrets.known_secrets({name: value}, tmp_path)) is found
