"""A search finds what people would have had to find by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import metadist
from metadist.runs.log import series
from metadist.search.report.data import search_data
from metadist.search.search_dir import SearchDir

pytestmark = [pytest.mark.learning, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.long
def test_the_best_of_both_rates_beats_the_default_at_equal_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = metadist.tune(
        "sinusoid-lr",
        trials=8,
        steps=500,
        every=125,
        seeds=1,
        episodes=200,
        offline=True,
    )
    search = SearchDir(Path(result["directory"]))
    best = search_data(search).ranked()[0]
    # Both on the same validation episodes, after at most as many steps.
    default = min(p.value for p in series(search.run("default-seed1"))["val/mse"])
    assert best.score is not None
    assert best.score < 0.8 * default
    assert result["against_default"]["word"] == "better"
    assert result["best_test"]["mean"] < 0.8 * result["default_test"]["mean"]
