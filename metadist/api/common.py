"""Types that the verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metadist.plugins import Plugin

#: A result that has no type of its own.
Record = dict[str, Any]
#: Modules and files that hold parts from outside this package, as typed or as read already.
Plugins = Sequence["str | Path | Plugin"]
