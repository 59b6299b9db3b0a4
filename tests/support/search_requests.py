"""Requests to search, of which most is left at what it is if nothing is said."""

from __future__ import annotations

from pathlib import Path

from metadist.search.request import SearchRequest


def request(runs_dir: Path, **changes: object) -> SearchRequest:
    plain: dict[str, object] = dict.fromkeys(SearchRequest.__dataclass_fields__)
    plain |= {"default_name": "x", "overrides": (), "changes": {}, "workers": 0, "cpus": 1.0}
    plain |= {"runs_dir": runs_dir, "offline": True, "device": "cpu", "plugins": (), "live": False}
    return SearchRequest(**{**plain, **changes})  # type: ignore[arg-type]
