"""A run that was interrupted says so in a picture; one that was not has none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from run_place import Place, died

from metadist.report import write_report
from metadist.runs.attempts import history


@pytest.mark.slow
def test_attempts_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    died(place, monkeypatch, 6, name="a")
    died_page = write_report(place.run("a")).read_text()
    assert "Attempts</h2>" not in died_page
    place.train(name="a", resume="a")
    run = place.run("a")
    page = write_report(run).read_text()
    assert "<h2>Attempts</h2>" in page
    redone = sum(span.redone for span in history(run))
    assert re.search(rf"1 restart, {redone} steps? done twice, [\d,]+ seconds", page)
    assert (run.figures / "attempts.svg").is_file()
    assert write_report(run).read_text() == page


@pytest.mark.slow
def test_no_picture_of_one_attempt_nor_of_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    place.train(name="whole")
    assert "Attempts</h2>" not in write_report(place.run("whole")).read_text()
    died(place, monkeypatch, 6, name="a")
    place.train(name="a", resume="a")
    (place.run("a").path / "attempts" / "0001.json").write_text("{")
    page = write_report(place.run("a")).read_text()
    assert "Attempts</h2>" not in page
    assert "cannot be read" in page
