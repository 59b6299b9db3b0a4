"""The report of a search whose records were damaged, altered or lost: noted, and never believed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from report_page import search_page

from metadist.errors import SpaceError
from metadist.search.report import write_search_report
from metadist.search.report.data import search_data
from metadist.search.report.result_schema import read_found

pytestmark = [pytest.mark.drawn(False), pytest.mark.slow]


@pytest.mark.parametrize(
    "change",
    [
        {"trial": "4"},
        {"top": None},
        {"point": {"inner.lr": [1]}},
        {"best_test": {"mean": "x", "ci95": 0, "over": ""}},
        {"best": [{"run": "best-seed1"}]},
        {"against_default": {"mean": 1.0, "ci95": True, "n": 1, "left_out": 0, "by_seed": []}},
    ],
)
def test_a_damaged_result_is_no_result(made, change):
    result = made.info()["result"]
    read_found(result)
    with pytest.raises(ValueError, match=r"needed|Error"):
        read_found({**result, **change})


@pytest.mark.parametrize("result", [7, {}])
def test_a_damaged_result_is_noted(search, result):
    search.update(result=result)
    (search.path / "trials" / "0003.json").write_text("{")
    page = search_page(search)
    assert "The result in search.json cannot be read" in page.text
    assert "it chose itself: not confirmed" in page.text
    assert "The record of a trial, 0003.json, cannot be read" in page.text


def test_a_run_is_looked_for_in_the_search_only(search):
    result = search.info()["result"]
    outside = {**result["best"][0], "run": "../runs/best-seed1"}
    search.update(result={**result, "best": [outside]})
    assert [run.setting for run in search_data(search).confirmed] == ["default", "default"]


@pytest.mark.parametrize(
    "change",
    [
        {"score": "good"},
        {"score": 1e999},
        {"steps": -1},
        {"number": "2"},
        {"status": "sleeping"},
        {"point": [1, 2]},
        {"point": {"inner.lr": None}},
        {"error": 3},
        {"surprise": 1},
    ],
)
def test_a_damaged_record_is_noted(search, change):
    path = search.path / "trials" / "0004.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    data = search_data(search)
    assert len(data.trials) == 11
    (note,) = data.notes
    assert note.startswith("The record of a trial, 0004.json, cannot be read")


def test_values_that_are_not_of_the_space(search):
    path = search.path / "trials" / "0004.json"
    record = json.loads(path.read_text())
    record["point"] = {"inner.lr": "<b>", "outer.optimizer": "adam"}
    path.write_text(json.dumps(record))
    page = search_page(search)
    assert "&lt;b&gt;" in search.report.read_text()
    assert "a trial does not fit the space" in page.text


def test_runs_that_are_gone_or_damaged(search):
    shutil.rmtree(search.run("trial-0001").path)
    (search.run("trial-0004").path / "attempts" / "0001.json").write_text("{")
    (search.run("best-seed1").path / "recipe.toml").write_text("[")
    search.best.unlink()
    page = search_page(search)
    assert "The metric log of trial-0004 cannot be read" in page.text
    assert "The recipe of best-seed1 cannot be read" in page.text
    assert "metadist train" not in page.text


@pytest.mark.drawn
def test_texts_are_escaped(search):
    evil = "</td><script>alert(1)</script>"
    record = search.trials()[1]
    search.record(replace(record, error=evil))
    plan = search.info()["plan"]
    search.update(plan={**plan, "declared": {**plan["declared"], "about": evil}})
    search_page(search)
    assert "<script" not in search.report.read_text()


def test_without_its_record_there_is_no_report(search, caplog):
    (search.path / "search.json").write_text("{}")
    with pytest.raises(SpaceError, match="format 1"):
        search_data(search)
    write_search_report(search, lambda line: pytest.fail(line))
    assert "the report could not be written" in caplog.text
    assert not search.report.exists()
