"""What was learned, in the report: complete, readable, and left out where there is nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from damage import Change, alter_json
from report_page import seen

from metadist.report import write_report
from metadist.report.charts import MOST_ROWS
from metadist.report.sections.diagnostics import learned_cards
from metadist.report.svg import pictures
from metadist.runs.readers.run_data import load_run
from metadist.runs.run_dir import RunDir


def learned(run: RunDir) -> str:
    """What a reader sees of the section, and what could not be read."""
    data = load_run(run)
    told = (f"{card.svg} {card.caption}" for card in learned_cards(data))
    return seen(" ".join([*data.notes, *told]))


def figure(run: RunDir, name: str) -> str:
    """A figure of the section."""
    return pictures(" ".join(card.svg for card in learned_cards(load_run(run))))[name]


def alter(run: RunDir, change: Change) -> None:
    alter_json(run.evaluation / "diagnostics.json", change)


def findings(run: RunDir, found: dict[str, dict[str, list[float | None]]]) -> None:
    alter(run, lambda raw: raw.update(findings=found))


@pytest.mark.slow
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


@pytest.mark.slow
def test_numbers_stand_beside_their_bars(run):
    findings(run, {"p_update": {"linear1": [0.123], "linear2": [None]}})
    alter(run, lambda raw: raw.update(feature_similarity={"linear1": -0.0004}))
    svg = figure(run, "foundPUpdate")
    assert ">0.123<" in svg
    assert ">none<" in svg
    assert ">0.000<" in figure(run, "similarity")


@pytest.mark.slow
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


@pytest.mark.slow
def test_step_sizes_by_step_are_a_heat_map(run):
    findings(run, {"step_size": {"conv1.weight": [0.1, 0.12, -0.034], "head.bias": [0.2, None]}})
    svg = figure(run, "foundStepSize")
    for cell in ("0.100", "0.120", "−0.034", "0.200", "none", "adaptation step", "conv1.weight"):
        assert f">{cell}<" in svg, cell
    findings(run, {"step_size": {"conv1.weight": [0.1], "head.bias": [0.2]}})
    assert "They started at inner.lr = 0.01." in learned(run)


@pytest.mark.slow
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


@pytest.mark.slow
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
