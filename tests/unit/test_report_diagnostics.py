"""What explains a run, in its report: complete, readable, and left out where there is nothing."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_runs import FUNCTIONS, ended_run
from safetensors.numpy import load_file, save_file

from metadist.engine.rundir import RunDir
from metadist.report import write_report
from metadist.report.charts import MOST_ROWS
from metadist.report.curves import Line, curves, validation_line
from metadist.report.episodes import draw_episodes
from metadist.report.figures import adaptation
from metadist.report.learned import learned_section
from metadist.report.load import load_run
from metadist.report.svg import pictures, standalone
from metadist.track.send import artifacts

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def masked(root: Path) -> RunDir:
    """An MT-net on sinusoids."""
    return ended_run(root, "masked", FUNCTIONS, "algorithm.name=mtnet", "eval.steps=3")


@pytest.fixture
def run(masked: RunDir, tmp_path: Path) -> RunDir:
    """A copy that a test may alter."""
    return RunDir(Path(shutil.copytree(masked.path, tmp_path / "masked")))


def seen(page: str) -> str:
    """What a reader sees, without the marks of the page; the text of figures too."""
    page = re.sub(r"<style.*?</style>", " ", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def learned(run: RunDir) -> str:
    """What a reader sees of the section, and what could not be read."""
    data = load_run(run)
    return seen(" ".join([*data.notes, learned_section(data)]))


def figure(run: RunDir, name: str) -> str:
    """A figure of the section."""
    return pictures(learned_section(load_run(run)))[name]


def curve(run: RunDir) -> str:
    """The curve of adaptation."""
    data = load_run(run)
    return adaptation(data.protocols, 0, data.floor)


def episodes(run: RunDir, trained: int = 1) -> str:
    """The test episodes."""
    data = load_run(run)
    assert data.examples is not None
    return draw_episodes(data.examples, trained)


def alter(run: RunDir, change: Change) -> None:
    path = run.evaluation / "diagnostics.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def findings(run: RunDir, found: dict[str, dict[str, list[float | None]]]) -> None:
    alter(run, lambda raw: raw.update(findings=found))


# --- the section ----------------------------------------------------------------------------------


def test_everything_is_told_with_how_to_read_it(run):
    page = write_report(run).read_text()
    text = seen(page)
    for said in (
        "What was learned",
        "p_update: share of units that an inner step changes",
        "p_update is σ(ζ), the probability of being updated",
        "Learned transforms T: spread of singular values",
        "singular value (logarithmic)",
        "identity",
        "What adaptation leaves as it was",
        "linear CKA of activations before and after 1 adaptation step",
        "Do training tasks pull together?",
        "mean cosine between the tasks' meta-gradients",
        "(16 training tasks)",
        "rule.linear1.logits",
    ):
        assert said in text, said
    assert text.index("Adaptation to unseen") < text.index("What was learned")
    assert text.index("What was learned") < text.index("Test episode 0")
    section = page[page.index("What was learned") : page.index("<h2>Test episodes")]
    assert section.count("<svg") == section.count("<figcaption>") == 4
    assert all(len(aid) > 20 for aid in re.findall(r"<figcaption>(.*?)</figcaption>", section))


def test_layers_stand_in_the_order_of_the_network(run):
    found: dict[str, Any] = {"zeta": {n: [0.1] for n in ("conv1", "conv10", "block2", "head")}}
    findings(run, found)
    svg = figure(run, "foundZeta")
    places = [svg.index(f">{name}<") for name in found["zeta"]]
    assert places == sorted(places)


def test_numbers_stand_beside_their_bars(run):
    findings(run, {"p_update": {"linear1": [0.123], "linear2": [None]}})
    alter(run, lambda raw: raw.update(feature_similarity={"linear1": -0.0004}))
    svg = figure(run, "foundPUpdate")
    assert ">0.12<" in svg
    assert ">none<" in svg
    assert ">0.000<" in figure(run, "similarity")


def test_step_sizes_within_parameters(run):
    three = {
        f"step_size_{name}": {"linear1.weight": [value]}
        for name, value in (("mean", 0.01), ("min", -0.2), ("max", 0.3))
    }
    findings(run, three)  # type: ignore[arg-type]
    text = learned(run)
    assert "Learned step sizes within each parameter" in text
    assert "step size (parameter change per unit of gradient)" in text
    assert "inner.lr = 0.01" in text


def test_step_sizes_by_step_are_a_heat_map(run):
    findings(run, {"step_size": {"conv1.weight": [0.1, 0.12, -0.034], "head.bias": [0.2, None]}})
    svg = figure(run, "foundStepSize")
    for cell in ("0.100", "0.120", "−0.034", "0.200", "none", "adaptation step", "conv1.weight"):
        assert f">{cell}<" in svg, cell
    findings(run, {"step_size": {"conv1.weight": [0.1], "head.bias": [0.2]}})
    assert "They started at inner.lr = 0.01." in learned(run)


def test_other_findings_are_drawn_as_they_are_called(run):
    findings(
        run,
        {
            "noise_level": {"a": [2.0], "b": [-3.0]},
            "table": {"a": [1.0, 2.0], "b": [3.0]},
            "gain_smallest": {"a": [0.0]},
            "gain_largest": {"a": [4.0]},
            "alone_min": {"a": [1.0]},
            "all_zero": {"a": [0.0]},
            "none_at_all": {"a": [None]},
        },
    )
    text = learned(run)
    for said in (
        "noise level",
        "table",
        "gain: spread of singular values",
        "alone min",
        "singular",
    ):
        assert said in text, said


def test_very_many_rows_are_cut_and_counted(run):
    findings(run, {"p_update": {f"layer{i}": [0.5] for i in range(MOST_ROWS + 7)}})
    text = learned(run)
    assert f"layer{MOST_ROWS - 1} " in text
    assert f"layer{MOST_ROWS} " not in text
    assert "7 more in evaluation/diagnostics.json." in text


def test_what_was_left_out_is_counted(run):
    alter(run, lambda raw: raw.update(failed_episodes=1, failed_tasks=3))
    text = learned(run)
    assert "1 episode left out: an activation was not finite." in text
    assert "3 tasks left out: a gradient was not finite." in text


@pytest.mark.parametrize("how", ["no file", "nothing in it"])
def test_without_anything_the_section_is_left_out(run, how):
    if how == "no file":
        (run.evaluation / "diagnostics.json").unlink()
    else:
        nothing: dict[str, Any] = {}
        alter(
            run,
            lambda raw: raw.update(
                findings=nothing, feature_similarity=nothing, gradient_alignment=nothing
            ),
        )
    text = learned(run)
    assert "What was learned" not in text
    assert "cannot be read" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("findings", []),
        ("findings", {"p_update": 0.5}),
        ("findings", {"p_update": {"a": []}}),
        ("findings", {"p_update": {"a": ["0.5"]}}),
        ("findings", {"p_update": {"a": [10**400]}}),
        ("findings", {"p_update": {"a": [True]}}),
        ("feature_similarity", {"a": [0.5]}),
        ("feature_similarity", None),
        ("gradient_alignment", {"a": "high"}),
        ("tasks", -1),
        ("episodes", 2.5),
        ("adaptation_steps", None),
    ],
)
def test_an_altered_file_is_named(run, name, value):
    alter(run, lambda raw: raw.update({name: value}))
    text = learned(run)
    assert "evaluation/diagnostics.json cannot be read" in text
    assert "What was learned" not in text


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_named(run, damage):
    (run.evaluation / "diagnostics.json").write_bytes(damage)
    assert "evaluation/diagnostics.json cannot be read" in learned(run)


def test_names_are_escaped(run):
    evil = "<script>alert(1)</script>"
    findings(run, {evil: {evil: [1.0]}})
    page = learned_section(load_run(run))
    assert "<script" not in page
    assert "&lt;script" in page


def test_huge_numbers_can_be_drawn(run):
    findings(
        run,
        {
            "size": {"a": [1e300], "b": [-1e300]},
            "gain_smallest": {"a": [1e-300]},
            "gain_largest": {"a": [1e300]},
        },
    )
    assert "size" in learned(run)


# --- adaptation -----------------------------------------------------------------------------------


def protocol(run: RunDir, change: Change) -> None:
    path = run.evaluation / "test-10q.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


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


def test_fits_show_the_first_the_trained_and_the_last_step(run):
    text = seen(episodes(run))
    for said in ("truth", "support", "before", "after 1 step", "after 3 steps", "Dots: the true"):
        assert said in text, said
    assert "after 2 steps" not in text
    assert "after 2 steps" in seen(episodes(run, trained=2))


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


def test_functions_of_two_inputs_are_drawn_against_the_truth(run):
    arrays = load_file(run.evaluation / "examples.safetensors")
    twice = {n: np.repeat(arrays[n], 2, axis=2) for n in ("support_x", "query_x")}
    examples(run, **twice)
    text = seen(episodes(run))
    for said in ("predicted y", "true y", "perfect", "lies on the diagonal"):
        assert said in text, said


# --- figures as files -----------------------------------------------------------------------------


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
    own = validation_line(masked, "MT-net")
    assert own is not None
    assert list(own.x) == [2, 4]
    lines = [
        own,
        Line("MAML, seed 0", [100, 200, 300], [0.2, math.nan, 0.4], [0.1, 0.1, 0.1]),
        Line("MAML, seed 0", [100, 200, 300], [0.25, 0.3, 0.45]),
        *(Line(f"other {i}", [100], [0.1]) for i in range(12)),
        Line("never finite", [100], [math.nan]),
    ]
    svg = curves(lines, title="A table", y="accuracy", percent=True, levels={"published": 0.487})
    for said in ("A table", "MT-net", "MAML, seed 0", "other 11", "published", "outer steps"):
        assert f">{said}<" in svg, said
    assert svg.count(">MAML, seed 0<") == 1
    assert "never finite" not in svg
    ET.fromstring(standalone(svg))


def test_curves_on_logarithmic_axes():
    line = Line("MAML", [10, 100, 1000], [30.0, 3.0, 0.3])
    svg = curves([line], title="t", y="error", log_x=True, log_y=True)
    assert ">1000<" in svg
    assert ">0.3<" in svg


def test_nothing_to_draw(tmp_path, root):
    assert curves([Line("a", [1], [math.inf])], title="t", y="accuracy") == ""
    assert curves([], title="t", y="accuracy") == ""
    (tmp_path / "log").mkdir()
    assert validation_line(RunDir(tmp_path), "empty") is None
