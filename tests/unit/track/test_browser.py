"""MLflow's own pages of runs that were trained here, as somebody sees them in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from browser import NO_BROWSER, Browser, browser_path
from mlflow_server import Server
from run_place import SETTINGS

import metadist
from metadist.runs.run_dir import RunDir
from metadist.track.client import connect
from metadist.track.ui import pages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(browser_path() is None, reason=NO_BROWSER),
]
RATES = {"slow": 0.005, "quick": 0.02}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in ``runs`` and the store beside it."""
    place = tmp_path_factory.mktemp("pages")
    for name, rate in RATES.items():
        metadist.train(
            "sinusoid-10shot-maml",
            name=name,
            overrides=[*SETTINGS, f"inner.lr={rate}"],
            runs_dir=place / "runs",
            data_dir=place / "data",
            tracking_uri=f"sqlite:///{place}/mlflow.db",
        )
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    server = Server(place)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile", (1500, 1400)) as browser:
        yield browser


@pytest.fixture
def compare_page(place: Path, server: Server) -> str:
    known = [RunDir(place / "runs" / name).info()["mlflow"]["run_id"] for name in RATES]
    store = connect(f"sqlite:///{place}/mlflow.db")
    experiment = store.get_run(known[0]).info.experiment_id
    runs, experiments = quote(json.dumps(known)), quote(json.dumps([experiment]))
    return f"{server.url}/#/compare-runs?runs={runs}&experiments={experiments}"


def test_the_compare_page_shows_parameters_figures_and_parallel_coordinates(
    browser, compare_page, place
):
    browser.open(compare_page)
    browser.wait_for_text("Comparing 2 Runs", *RATES, "inner.lr", "test/mse", "run_dir")
    page = browser.text
    for rate in RATES.values():
        assert str(rate) in page
    for name in RATES:
        run = RunDir(place / "runs" / name)
        assert str(run.path)[:20] in page
    # What differs is chosen for the axes by itself; a run is a line across them.
    browser.wait("document.querySelector('.js-plotly-plot .parcoords, .js-plotly-plot canvas')")
    axes = browser.run("document.querySelector('.js-plotly-plot').parentElement.innerText")
    assert "inner.lr" in axes
    assert "outer.lr" not in axes


def test_a_metric_of_the_compare_page_opens_its_curves(browser, compare_page):
    browser.open(compare_page)
    browser.wait_for_text("Comparing 2 Runs", "val/mse")
    browser.click("val/mse", "a")
    browser.wait_for_text(*(f"{name} (val/mse)" for name in RATES))
    # Lines that go somewhere, one for each run; MLflow draws each once more to smooth it.
    lines = "[...document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line')]"
    drawn = (
        f"{lines}.filter(line => line.getTotalLength() > 20).map(line => line.getAttribute('d'))"
    )
    browser.wait(f"new Set({drawn}).size >= 2")


def test_the_address_of_the_ui_opens_the_runs_with_our_columns(browser, server, place):
    (_, address), *others = pages(f"sqlite:///{place}/mlflow.db", server.url)
    assert not others
    browser.open(address)
    browser.wait_for_text(*RATES, "Dataset", "sinusoid", "test/mse", "test/mse_ci95", "maml")
    page = browser.text
    assert "algorithm.name" in page
    assert "test/accuracy" not in page  # a column that no run has
    assert "Error loading" not in page


def test_the_charts_are_bars_of_figures_and_begin_with_what_is_looked_for(
    browser, server, compare_page
):
    experiment = json.loads(unquote(compare_page.rpartition("=")[2]))[0]
    browser.open(f"{server.url}/#/experiments/{experiment}/runs?compareRunsMode=CHART")
    browser.wait_for_text(*RATES, "perf", "test", "train", "val", "what_was_learned/cka")
    browser.wait("document.querySelectorAll('.js-plotly-plot .barlayer .point').length >= 2")
    sections = browser.text
    order = [sections.rindex(f"\n{name}\n") for name in ("perf", "test", "train", "val")]
    assert order == sorted(order)
    assert order[-1] < sections.rindex("what_was_learned")
