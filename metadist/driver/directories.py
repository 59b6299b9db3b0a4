"""Where runs and prepared data live: the directories that are meant by what was typed.

``metadist`` imports this at its start, where ``metadist doctor`` must still be able to say that
another ``data_pipeline`` is in the way: so ours is imported when it is needed.
"""

from __future__ import annotations

import os
from pathlib import Path

from metadist.errors import RunError


def runs_directory(given: str | Path, *, local_for: str = "") -> Path:
    """Where runs live.

    Of a place in an object store (``s3://bucket/prefix``) it is the working copy on this node.

    Args:
        local_for: what is to be done that needs a path.

    Raises:
        StoreError: a URI that names no such place.
        RunError: a URI where a path is needed.
    """
    from data_pipeline.storage.object_uri import is_uri, local_path, redacted

    if local_for and is_uri(str(given)):
        raise RunError(
            f"--runs-dir {redacted(str(given))}: {local_for} needs a path that all nodes see; runs "
            "in an object store are for train, evaluate, report, compare, adapt, register and sync"
        )
    return local_path(given)


def data_directory(given: str | Path | None = None) -> Path:
    """Where prepared data live: as given, else METADIST_DATA_DIR, else ./data.

    Of a place in an object store (``s3://bucket/prefix``) it is the working copy on this node.

    Raises:
        StoreError: a URI that names no such place.
    """
    from data_pipeline.storage.object_uri import local_path

    return local_path(given or os.environ.get("METADIST_DATA_DIR") or "data")
