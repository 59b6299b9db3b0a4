"""Users and passwords do not leave this process in a URI that is shown or written down."""

from __future__ import annotations

import re

#: What stands where a secret was.
HIDDEN = "***"
_SCHEME = r"(?P<scheme>\b{}://)"
#: A password may hold a '/' (every other AWS key does), though none belongs into a URI like that:
#: all from the first ':' to the last '@' is hidden, but for the port and path of a web address.
_PASSWORD = (
    re.compile(_SCHEME.format(r"(?!https?:)[a-z][a-z0-9+.-]*") + r"[^/\s:'\"@]*:[^\s'\"]*@", re.I),
    re.compile(
        _SCHEME.format("https?") + r"[^/\s:'\"@]*:(?!\d{1,5}(?:[/?#]|$))[^\s'\"]*@", re.IGNORECASE
    ),
)
#: All before the last '@' of an authority: a password may hold one.
_USER = re.compile(_SCHEME.format("[a-z][a-z0-9+.-]*") + r"[^/\s'\"]+@", re.IGNORECASE)


def without_users(text: str) -> str:
    """``text`` without the users and passwords of the URIs in it."""
    for pattern in (*_PASSWORD, _USER):
        text = pattern.sub(rf"\g<scheme>{HIDDEN}@", text)
    return text
