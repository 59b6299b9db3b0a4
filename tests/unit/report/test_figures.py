"""Figures of the report: adaptation, fits and curves, as parts of the page and as files."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from damage import Change, alter_json
from report_page import seen
from safetensors.numpy import load_file, save_file

from metadist.report import write_report
from metadist.report.curves import Line, curves, validation_line
from metadist.report.document import page
from metadist.report.figures import adaptation, log_scale
from metadist.report.sections.episodes import shown_episodes
from metadist.report.svg import drawing, pictures, standalone
from metadist.runs.readers.run_data import load_run
from metadist.runs.run_dir import RunDir
from metadist.track.upload import artifacts


def curve(run: RunDir) -> str:
    """The curve of adaptation."""
    data = load_run(run)
    return adaptation(data.protocols, 0, data.floor)


def episodes(run: RunDir, trained: int = 1) -> str:
    """The test episodes."""
    data = load_run(run)
    assert data.examples is not None
    drawn = shown_episodes(data.examples, trained)
    return page("report/templates/episodes.html.j2", episodes=drawn)


# --- adaptation -----------------------------------------------------------------------------------


def protocol(run: RunDir, change: Change) -> None:
    alter_json(run.evaluation / "test-10q.json", change)


@pytest.mark.slow
def test_the_floor_is_drawn_for_functions(run):
    assert ">zero-shot floor<" in curve(run)
    assert ">trained steps<" in curve(run)
    text = seen(write_report(run).read_text())
    assert "Zero-shot floor: 3.01, the error that no predictor can be below" in text
    recipe = run.path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('"sinusoid"', '"somebody_elses"'))
    assert ">zero-shot floor<" not in curve(run)


def test_failed_episodes_are_marked_on_the_curve(run):
    assert ">episodes diverged<" not in curve(run)
    protocol(run, lambda raw: raw.update(failed_by_step=[0, 0, 2, 1]))
    assert curve(run).count(">episodes diverged<") == 1


def test_an_exploding_error_hides_nothing(run):
    def explode(raw: dict[str, Any]) -> None:
        raw["failed_by_step"] = [0, 0, 2, 8]
        raw["by_step"][2] |= {"mean": 3e26, "ci95": 5e26}
        raw["by_step"][3] |= {"mean": None, "ci95": None, "median": None, "worst_decile": None}

    protocol(run, explode)
    svg = curve(run)
    assert "cut off: means up to 3e+26" in svg
    assert ">median<" in svg
    assert ">episodes diverged<" in svg
    ticks = [float(t) for t in re.findall(r">([\d.e+]+)</text>", svg)]
    assert max(ticks) < 1000


# --- fits -----------------------------------------------------------------------------------------


def examples(run: RunDir, **changed: Any) -> None:
    path = run.evaluation / "examples.safetensors"
    save_file({**load_file(path), **changed}, path)


@pytest.mark.slow
def test_fits_show_the_first_the_trained_and_the_last_step(run):
    text = seen(episodes(run))
    for said in ("truth", "support", "before", "after 1 step", "after 3 steps", "Dots: the true"):
        assert said in text, said
    assert "after 2 steps" not in text
    assert "after 2 steps" in seen(episodes(run, trained=2))


@pytest.mark.slow
def test_predictions_beyond_the_axes_are_told(run):
    outputs = load_file(run.evaluation / "examples.safetensors")["outputs"]
    outputs[0, -1] = math.nan
    outputs[1, -1] = 1e25
    examples(run, outputs=outputs)
    text = seen(episodes(run))
    assert "after 3 steps (not finite)" in text
    assert "after 3 steps (off the scale)" in text
    assert "not finite after 3" in text
    svg = pictures(episodes(run))["fit1"]
    ticks = [float(t.replace("−", "-")) for t in re.findall(r">(−?[\d.]+)</text>", svg)]
    assert max(abs(t) for t in ticks) < 30


def test_a_learner_without_steps_has_one_prediction(run):
    outputs = load_file(run.evaluation / "examples.safetensors")["outputs"]
    examples(run, outputs=np.ascontiguousarray(outputs[:, :1]))
    svg = pictures(episodes(run))["fit0"]
    assert ">prediction<" in svg
    assert ">before<" not in svg


@pytest.mark.slow
def test_functions_of_two_inputs_are_drawn_against_the_truth(run):
    arrays = load_file(run.evaluation / "examples.safetensors")
    twice = {n: np.repeat(arrays[n], 2, axis=2) for n in ("support_x", "query_x")}
    examples(run, **twice)
    text = seen(episodes(run))
    for said in ("predicted y", "true y", "perfect", "lies on the diagonal"):
        assert said in text, said


# --- figures as files -----------------------------------------------------------------------------


@pytest.mark.slow
def test_figures_are_files_of_their_own(run):
    run.figures.mkdir(exist_ok=True)
    (run.figures / "gone.svg").write_text("an older report's")
    page = write_report(run).read_text()
    files = {path.stem: path.read_text() for path in run.figures.iterdir()}
    assert {"loss", "steps", "spread", "similarity", "alignment", "fit0", "foundPUpdate"} <= {
        *files
    }
    assert "gone" not in files
    assert page.count("<svg") == len(files)
    for text in files.values():
        element = ET.fromstring(text)
        assert element.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(element.attrib["width"].removesuffix("pt")) > 300
        assert "var(" not in text
        assert not re.search(r"#0\dfe0\d", text)
    first = {path.name: path.read_bytes() for path in run.figures.iterdir()}
    write_report(run)
    assert {path.name: path.read_bytes() for path in run.figures.iterdir()} == first
    sent = {f"{folder}/{path.name}" for path, folder in artifacts(run, [])}
    assert {"evaluation/diagnostics.json", "figures/steps.svg", "figures/similarity.svg"} <= sent


# --- curves of several runs -----------------------------------------------------------------------


def test_curves_of_several_runs(masked):
    own = validation_line(masked, "MT-net", "mse")
    assert own is not None
    assert list(own.x) == [2, 4]
    lines = [
        own,
        Line("MAML, seed 0", [100, 200, 300], [0.2, math.nan, 0.4], [0.1, 0.1, 0.1]),
        Line("MAML, seed 0", [100, 200, 300], [0.25, 0.3, 0.45]),
        *(Line(f"other {i}", [100], [0.1]) for i in range(12)),
        Line("never finite", [100], [math.nan]),
    ]
    svg = curves(lines, title="A table", y="accuracy", percent=True)
    for said in ("A table", "MT-net", "MAML, seed 0", "other 11", "outer steps"):
        assert f">{said}<" in svg, said
    assert svg.count(">MAML, seed 0<") == 1
    assert "never finite" not in svg
    ET.fromstring(standalone(svg))


def test_curves_on_a_logarithmic_axis():
    line = Line("MAML", [10, 100, 1000], [30.0, 3.0, 0.3])
    svg = curves([line], title="t", y="error", log_y=True)
    assert ">0.3<" in svg


@pytest.mark.parametrize(("low", "high"), [(2.8, 3.3), (0.011, 0.0145), (3.0, 90.0), (0.8, 1e5)])
def test_a_logarithmic_axis_has_at_least_three_ticks(low, high):
    with drawing("a", "b") as figure:
        axes = figure.axes()
        axes.set_ylim(low, high)
        log_scale(axes)
        assert len([t for t in axes.get_yticks() if low <= t <= high]) >= 3


def test_nothing_to_draw(tmp_path, root):
    assert curves([Line("a", [1], [math.inf])], title="t", y="accuracy") == ""
    assert curves([], title="t", y="accuracy") == ""
    (tmp_path / "log").mkdir()
    assert validation_line(RunDir(tmp_path), "empty", "mse") is None
