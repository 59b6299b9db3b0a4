"""Files as an accident or a stranger leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], None]


def flip(path: Path, at: int = -1, bits: int = 1) -> None:
    """Flip bits of one byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= bits
    path.write_bytes(content)


def alter_json(path: Path, change: Change) -> None:
    """Change what a JSON file says."""
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
