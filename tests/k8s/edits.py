"""Changing one thing in an object."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from manifests.documents import Manifest

#: As a value: take the key out.
GONE = object()

Edits = dict[str, Any]


def edited(manifest: Manifest, edits: Edits) -> Manifest:
    """A copy in which values stand at other places; a place ``…+`` is one more entry of a list."""
    # Through JSON, because the parser makes one object of what an anchor names in two places.
    body = json.loads(json.dumps(manifest.body))
    for path, value in edits.items():
        *outer, last = path.removesuffix("+").rstrip(".").split(".")
        there: Any = body
        for key in outer:
            there = there[int(key)] if isinstance(there, list) else there.setdefault(key, {})
        if path.endswith("+"):
            there.setdefault(last, []).append(deepcopy(value))
        elif value is GONE:
            del there[last]
        elif isinstance(there, list):
            there[int(last)] = deepcopy(value)
        else:
            there[last] = deepcopy(value)
    return Manifest(body, manifest.source)
