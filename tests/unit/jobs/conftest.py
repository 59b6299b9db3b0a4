"""A dashboard to submit to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from dashboard import Dashboard, serving

from metadist.jobs import follow
from metadist.jobs import submit as submitting


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    """A dashboard of this very version; no other cluster is named anywhere."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", submitting.IN_A_JOB):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METADIST_HEAD_WAIT_S", "0.1")
    monkeypatch.setattr(follow, "_FIRST", 0.01)
    with serving(Dashboard(version=ray.__version__)) as one:
        yield one
