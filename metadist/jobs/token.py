"""The token of a Ray head on this machine, which switches tokens on where its user has one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def local_token(address: str, environ: Mapping[str, str]) -> dict[str, str] | None:
    """Headers with the token that a head at ``address`` has taken from where Ray looks for one.

    None where there is none, on other machines, and where ``RAY_AUTH_MODE`` says what to do.
    """
    if environ.get("RAY_AUTH_MODE") or urlsplit(address).hostname not in _LOOPBACK:
        return None
    token = environ.get("RAY_AUTH_TOKEN", "").strip()
    with contextlib.suppress(OSError, RuntimeError, UnicodeDecodeError):
        file = environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        token = token or Path(file).read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else None
