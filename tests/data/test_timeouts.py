"""Seconds that are set in the environment."""

from __future__ import annotations

import pytest

from data_pipeline.timeouts import seconds_of


@pytest.mark.parametrize(("given", "seconds"), [("", 7.0), ("0", 0.0), ("2.5", 2.5), ("1e3", 1000)])
def test_seconds(given: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METADIST_X_S", given)
    assert seconds_of("METADIST_X_S", 7.0, OSError) == seconds
    monkeypatch.delenv("METADIST_X_S")
    assert seconds_of("METADIST_X_S", 7.0, OSError) == 7


@pytest.mark.parametrize("given", ["soon", "-1", "inf", "nan", "5 s"])
def test_what_are_no_seconds(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METADIST_X_S", given)
    with pytest.raises(OSError, match=f"METADIST_X_S: seconds are needed, as in 7, got '{given}'"):
        seconds_of("METADIST_X_S", 7.0, OSError)
