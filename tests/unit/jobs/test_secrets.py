"""No secret gets into what everybody on a cluster can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from metadist.errors import JobError
from metadist.jobs.secrets import check_text, check_words, known_secrets, redacted


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://me:pa55@host:5000/x", "http://***@host:5000/x"),
        ("a postgresql://me:p@ss@db/x b", "a postgresql://***@db/x b"),
        ("https://t0ken@host", "https://***@host"),
        ("s3://b/k?X-Amz-Signature=abc&v=1", "s3://b/k?X-Amz-Signature=***&v=1"),
        ("http://h/?access_token=abc", "http://h/?access_token=***"),
        ("--set x=http://u:p@h/ --y", "--set x=http://***@h/ --y"),
        ("http://host:5000/?experiment=3", None),
        ("inner.lr=0.1", None),
        ("me@example.org", None),
        ("s3://bucket/a@b", None),
    ],
)
def test_secrets_in_uris(text: str, hidden: str | None) -> None:
    assert redacted(text) == (hidden or text)
    if hidden is None:
        check_text("here", text, {})
        return
    with pytest.raises(JobError, match="MLFLOW_TRACKING_USERNAME") as caught:
        check_text("here", text, {})
    for secret in ("pa55", "p@ss", "t0ken", "abc"):
        assert secret not in str(caught.value)


def test_what_is_known_to_be_secret(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("f00dfeedf00dfeed\n")
    elsewhere = tmp_path / "token"
    elsewhere.write_text("0123456789abcdef")
    environ = {
        "RAY_AUTH_TOKEN_PATH": str(elsewhere),
        "RAY_AUTH_MODE": "token",
        "MLFLOW_TRACKING_PASSWORD": "pa55word",
        "AWS_SECRET_ACCESS_KEY": "k" * 40,
        "TOKENIZERS_PARALLELISM": "disabled",
        "MAX_TOKENS": "1000000000",
        "HOME": "/home/me/0123",
    }
    found = known_secrets(environ, tmp_path)
    assert set(found) == {
        str(elsewhere),
        str(tmp_path / ".ray" / "auth_token"),
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
    }
    assert found[str(elsewhere)] == "0123456789abcdef"


def test_a_secret_in_a_command_line_is_named_by_its_option() -> None:
    secrets = {"RAY_AUTH_TOKEN": "0123456789abcdef"}
    check_words(["train", "x", "--set", "inner.lr=0.1"], secrets)
    for words in (
        ["train", "x", "--experiment", "a0123456789abcdef"],
        ["train", "x", "--experiment=a0123456789abcdef", ""],
    ):
        with pytest.raises(JobError, match="the value of RAY_AUTH_TOKEN") as caught:
            check_words(words, secrets)
        assert "0123456789abcdef" not in str(caught.value)
    with pytest.raises(JobError, match=r"^--tracking-uri: a user, password"):
        check_words(["train", "x", "--tracking-uri", "http://u:p@h"], {})
