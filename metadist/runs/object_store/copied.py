"""What a working copy holds of an object store: which claim is its own, which bundle it has got."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.storage.local import read_json, write_atomic


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if it is missing or none."""
    with contextlib.suppress(DataError):
        value = read_json(path)
        if isinstance(value, dict):
            return value
    return {}


class Copied:
    """A record of this node alone, ``.copied/<name>.json`` in a run directory."""

    def __init__(self, run: Path, name: str) -> None:
        self._path = run / ".copied" / f"{name}.json"

    def get(self, key: str) -> Any:
        """A field; None if it is not recorded."""
        return read_object(self._path).get(key)

    def set(self, **fields: Any) -> None:
        """Replace the record."""
        write_atomic(self._path, json.dumps(fields).encode())
