"""A trial whose process dies before it has written a record is not lost without a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from search_dirs import rates_plan

from metadist.errors import ResourceError
from metadist.executors.cluster.resources import Resources
from metadist.process.announce import quiet
from metadist.search import run_search
from metadist.search.confirm import Confirmation
from metadist.search.run_search import _Search
from metadist.search.search_dir import SearchDir, TrialRecord, create_search
from metadist.search.trial import TrialContext


def searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Sequence[Sequence[int]]
) -> SearchDir:
    """A search of three trials whose Tune loses some, other ones each time it is begun."""
    plan = rates_plan(trials=3)
    search = create_search(tmp_path, "s", {"plan": plan.document()})
    begun = iter(lost)

    def run_trials(space: object, function: object, **more: object) -> bool:
        now = next(begun)
        for number in (1, 2, 3):
            if number not in now:
                name = f"trial-{number:04d}"
                search.record(TrialRecord(number, {}, name, "finished", score=1.0, steps=400))
        return True  # all have ended, Tune says

    monkeypatch.setattr(run_search, "run_trials", run_trials)
    request = cast(Any, SimpleNamespace(live=False))
    resources, confirmation = Resources(1, 1.0), Confirmation(8, 1, False)
    parent = cast(Any, None)
    found = _Search(request, plan, search, parent, resources, confirmation, quiet)
    found._run_trials(TrialContext(search.path, tmp_path / "data", offline=True))
    assert not list(begun), "Tune was not begun as often as it had to be"
    return search


def test_a_trial_without_a_record_is_begun_again(tmp_path, monkeypatch) -> None:
    search = searched(tmp_path, monkeypatch, [(2,), ()])
    assert [t.number for t in search.trials()] == [1, 2, 3]


def test_what_is_whole_is_not_begun_again(tmp_path, monkeypatch) -> None:
    searched(tmp_path, monkeypatch, [()])


def test_a_trial_that_never_begins_is_told(tmp_path, monkeypatch) -> None:
    with pytest.raises(ResourceError, match=r"1 of them have not begun.*--resume s"):
        searched(tmp_path, monkeypatch, [(2,), (2,), (2,)])
