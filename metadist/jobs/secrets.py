"""Secrets that must not leave this machine in a command line, a file or a message.

The command line of a job, its runtime environment and its log can be read by everybody who may use
the cluster, and stay there.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from data_pipeline.storage.redaction import HIDDEN, without_users
from metadist.errors import JobError

#: Names of variables, and of values in the query of a URI, that hold secrets.
_NAME = r"(?:token|password|passwd|secret|signature|credential|api_?key|access_?key)"
_VARIABLE = re.compile(_NAME, re.IGNORECASE)
_QUERY = re.compile(rf"(?P<key>[?&][^=&#\s]*{_NAME}[^=&#\s]*=)[^&#\s'\"]+", re.IGNORECASE)
#: Shorter values, and those that are one word or a small number, would be found everywhere (those
#: of SECRET_BACKEND, TOKEN_LIFETIME). What calls itself a password is looked for in any case.
_SHORTEST = 8
_ONE_WORD = re.compile(r"[A-Za-z_.-]{,19}|[0-9.]{,11}")
_PASSWORD = re.compile(r"passw", re.IGNORECASE)
#: What in a variable's name says that it holds a place or a way, and no secret itself.
_HARMLESS = ("_PATH", "_FILE", "_MODE", "_DIR", "_URI", "_URL")


def redacted(text: str) -> str:
    """``text`` without users, passwords and secret values of queries in its URIs."""
    return _QUERY.sub(rf"\g<key>{HIDDEN}", without_users(text))


def known_secrets(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Secrets of whoever submits: where each is known from, and its value."""
    found = {
        name: value.strip()
        for name, value in environ.items()
        if _VARIABLE.search(name) and not name.endswith(_HARMLESS)
    }
    for path in (Path(environ.get("RAY_AUTH_TOKEN_PATH") or ""), home / ".ray" / "auth_token"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found[str(path)] = path.read_text().strip()
    return {
        name: value
        for name, value in found.items()
        if len(value) >= _SHORTEST and (_PASSWORD.search(name) or not _ONE_WORD.fullmatch(value))
    }


def check_text(where: str, text: str, secrets: Mapping[str, str]) -> None:
    """See that a text holds no secret.

    Raises:
        JobError: it does; the message says where, and does not repeat it.
    """
    if redacted(text) != text:
        raise JobError(
            f"{where}: a user, password or token stands in a URI ({_shown(text)}). Jobs and their "
            "logs can be read by all users of the cluster: set it there instead, as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and give the URI without it"
        )
    check_values(where, text, secrets)


def check_values(where: str, text: str, secrets: Mapping[str, str]) -> None:
    """See that a text, which may speak of URIs as code does, holds none of these; else JobError."""
    for name, value in secrets.items():
        if value in text:
            raise JobError(
                f"{where}: the value of {name} stands in it. Jobs and their logs can be read by "
                "all users of the cluster: set it in the cluster's own environment instead"
            )


def check_words(words: Iterable[str], secrets: Mapping[str, str]) -> None:
    """See that a command line holds no secret; raises JobError."""
    before = ""
    for word in words:
        check_text(before if before.startswith("--") else "the command line", word, secrets)
        before = word.partition("=")[0]


def _shown(text: str) -> str:
    lines = zip(text.splitlines(), redacted(text).splitlines(), strict=False)
    return next((hidden.strip()[:200] for line, hidden in lines if line != hidden), HIDDEN)
