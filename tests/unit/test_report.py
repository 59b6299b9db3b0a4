"""The HTML report: complete, self-contained, escaped, reproducible, and honest about gaps."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from metadist.engine.evaluate import Evaluation, write_evaluation
from metadist.engine.protocol import EvalPart, EvalProtocol
from metadist.engine.rundir import RunDir, create_run
from metadist.engine.runlog import LogWriter
from metadist.errors import RunError
from metadist.recipe import Recipe, parse_recipe
from metadist.report import write_report
from metadist.report.episodes import label
from metadist.report.figures import smooth
from metadist.report.words import number, plural

IMAGES = """
[data]
dataset = "strokes"
ways = {ways}
shots = {shots}
queries = 1
[model]
name = "conv4"
norm = "{norm}"
[algorithm]
name = "maml"
[inner]
lr = 0.4
steps = 1
[outer]
steps = 300
"""
FUNCTIONS = """
[data]
dataset = "sinusoid"
ways = 0
shots = 10
queries = 10
[model]
name = "mlp"
norm = "none"
[algorithm]
name = "fomaml"
[eval]
queries = 10
extra_queries = 100
"""
LEARNER = {"algorithm": "maml", "derivative_order": 2, "estimator": "exact", "norm": "transductive"}


def image_recipe(ways: int = 5, shots: int = 1, norm: str = "transductive") -> Recipe:
    return parse_recipe(IMAGES.format(ways=ways, shots=shots, norm=norm))


def make_run(root: Path, recipe: Recipe, name: str = "demo", **info: Any) -> RunDir:
    facts = {
        "dataset": {"name": recipe.data.dataset, "digest": "d" * 64, "licence": "Apache-2.0"},
        "versions": {"metadist": "0.1.0", "torch": "2.13.0"},
        "learner": LEARNER,
        "mlflow": {"tracking_uri": "http://user:secret@host", "run_id": "f" * 32},
        "result": None,
    }
    return create_run(root, name, recipe, {**facts, **info})


def write_log(run: RunDir, steps: int, *, bits: str = "verified", accuracy: bool = True) -> None:
    rng = np.random.default_rng(0)
    attempt = run.claim({"world_size": 2, "numerics": {"torch": "2.13.0"}, "bits": bits})
    writer = LogWriter(attempt)
    for step in range(1, steps + 1):
        value = 0.3 + 0.5 * step / steps + 0.02 * rng.standard_normal()
        metrics = {"train/loss": 2.0 - value}
        if accuracy:
            metrics["train/accuracy"] = value
        writer.add(step, metrics)
        if step % 50 == 0:
            score = {"val/accuracy": value} if accuracy else {"val/mse": 2.0 - value}
            writer.add(step, {**score, "val/loss": 2.0 - value, "perf/engine": 0.97})
    writer.flush()


def write_results(
    run: RunDir,
    queries: int,
    *,
    regression: bool = False,
    failed: int = 0,
    name: str = "",
    shots: int = 1,
    figure_step: int = 1,
    checkpoint: int = 250,
) -> None:
    rng = np.random.default_rng(queries)
    episodes, steps = 60, 4
    gain = np.array([0.2, 0.8, 0.82, 0.83])
    if regression:
        score = rng.gamma(2.0, 0.5, (episodes, steps)) * (3.0 - 3 * gain)[None]
    else:
        score = np.clip(gain[None] + 0.1 * rng.standard_normal((episodes, steps)), 0, 1)
    bad = np.zeros((episodes, steps), dtype=bool)
    bad[:failed] = True
    score[bad] = math.nan if regression else 0.0
    name = name or f"test-{queries}q"
    part: EvalPart = "val" if name.startswith("val") else "test"
    result = Evaluation(
        protocol=EvalProtocol(name, part, shots, queries, episodes, steps - 1, figure_step),
        kind="regression" if regression else "classification",
        trained_steps=1,
        score=score,
        loss=np.where(bad, math.nan, 1.0 - score / 2),
        failed=bad,
        episode_digest="e" * 64,
    )
    recipe = run.recipe()
    facts = {
        "recipe_hash": recipe.hash,
        "norm": recipe.model.norm,
        "checkpoint": {"step": checkpoint, "params_sha256": f"{checkpoint % 16:x}" * 64},
    }
    write_evaluation(run.evaluation, result, facts)


def write_image_examples(run: RunDir, channels: int = 1, queries: int = 4) -> None:
    rng = np.random.default_rng(1)
    data = run.recipe().data
    ways, shots, side, count = data.ways, data.shots, 12, 6
    support_y = np.tile(np.repeat(np.arange(ways), shots), (count, 1))
    query_y = np.stack([rng.permutation(np.repeat(np.arange(ways), queries)) for _ in range(count)])
    logits = rng.standard_normal((count, 3, ways * queries, ways))
    # After adaptation nine in ten are right.
    sure = rng.random(query_y.shape) < 0.9
    logits[:, 1:] += 9.0 * sure[:, None, :, None] * np.eye(ways)[query_y][:, None]
    logits[0, 1, 0] = math.nan
    tensors: dict[str, Any] = {
        "ids": np.arange(count),
        "support_x": rng.random((count, ways * shots, channels, side, side)).astype(np.float32),
        "support_y": support_y,
        "query_x": rng.random((count, ways * queries, channels, side, side)).astype(np.float32),
        "query_y": query_y,
        "outputs": logits.astype(np.float32),
    }
    save_file(tensors, run.evaluation / "examples.safetensors")


def write_function_examples(run: RunDir) -> None:
    x = np.linspace(-5, 5, 40, dtype=np.float32)[None, :, None].repeat(6, 0)
    phase = np.arange(6, dtype=np.float32)[:, None, None]
    outputs = np.stack([0.2 * np.sin(x), 0.8 * np.sin(x + phase), np.sin(x + phase)], 1)
    tensors = {
        "ids": np.arange(6),
        "support_x": np.ascontiguousarray(x[:, ::4]),
        "support_y": np.ascontiguousarray(np.sin(x + phase)[:, ::4]),
        "query_x": x,
        "query_y": np.sin(x + phase),
        "outputs": outputs,
    }
    save_file(tensors, run.evaluation / "examples.safetensors")


def finished_run(root: Path, recipe: Recipe | None = None, channels: int = 1) -> RunDir:
    run = make_run(root, recipe or image_recipe())
    write_log(run, 300)
    for queries in (1, 15):
        write_results(run, queries)
    write_image_examples(run, channels)
    result = {"best_step": 250, "params_sha256": "a" * 64, "tasks_per_second": 231.4}
    run.update(status="finished", result={**result, "data_wait": 0.012, "restarts": 0})
    return run


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(run: RunDir) -> Page:
    return Page(write_report(run).read_text())


def test_a_finished_run_is_told_whole(tmp_path):
    page = read(finished_run(tmp_path))
    means = re.findall(r"(\d\d\.\d) ± \d\.\d % accuracy on 60 test episodes of unseen", page.text)
    assert len(means) == 2
    for words in (
        "1 query per class, after 1 adaptation step",
        "15 queries per class, after 1 adaptation step",
        "before adaptation",
        "chosen on validation classes, never on test",
        "step 250",
        "Query loss after adaptation",
        "Query accuracy after adaptation",
        "checkpoint chosen",
        "worst tenth",
        "Test episode 3",
        "2 (through the adaptation)",
        "231.4",
        "0 failed",
        "d" * 64,
        "e" * 64,
        "a" * 64,
        "Transductive normalisation.",
        "not finite",
    ):
        assert words in page.text, words
    assert "Bits unverified" not in page.text
    assert "secret" not in page.text
    # 4 episodes of 5 supports and 15 queries.
    assert page.tags.count("img") == 4 * 20
    assert {"✓", "✗"} <= set(page.text)


def test_nothing_is_fetched_and_nothing_can_run(tmp_path):
    run = finished_run(tmp_path)
    page = read(run)
    assert "script" not in page.tags
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    text = run.report.read_text()
    assert "default-src 'none'" in text
    rest = text.replace("http://www.w3.org/2000/svg", "").replace(
        "http://www.w3.org/1999/xlink", ""
    )
    assert "http:" not in rest
    assert "https:" not in rest
    assert "url(http" not in rest


def test_ids_of_the_figures_do_not_meet(tmp_path):
    page = read(finished_run(tmp_path))
    assert page.ids
    assert len(page.ids) == len(set(page.ids))
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))


def test_the_same_directory_gives_the_same_bytes(tmp_path):
    run = finished_run(tmp_path)
    first = write_report(run).read_bytes()
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 30.0}):  # somebody's own settings
        assert write_report(run).read_bytes() == first


def test_text_from_the_run_directory_is_escaped(tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"&"
    run = finished_run(tmp_path)
    run.update(
        status=evil,
        dataset={"name": evil, "digest": evil, "licence": evil},
        versions={evil: evil},
        learner={"algorithm": evil, "derivative_order": evil, "nested": {evil: [evil]}},
        mlflow={"experiment": evil, "run_id": evil},
        numerics={evil: {evil: evil}},
    )
    page = read(run)
    assert "script" not in page.tags
    assert page.tags.count("img") == 4 * 20
    assert page.text.count("alert(1)") >= 8


def test_colours_follow_the_page(tmp_path):
    text = write_report(finished_run(tmp_path)).read_text()
    assert "var(--main)" in text
    assert not re.search(r"#0\dfe0\d", text)
    assert "prefers-color-scheme: dark" in text


def test_functions_are_drawn_with_their_fits(tmp_path):
    run = make_run(tmp_path, parse_recipe(FUNCTIONS), status="finished")
    write_log(run, 120, accuracy=False)
    for queries in (10, 100):
        write_results(run, queries, regression=True, failed=2)
    write_function_examples(run)
    page = read(run)
    for words in (
        "10-shot regression",
        "mean squared error on 60 test episodes of unseen functions",
        "Mean squared error after each adaptation step",
        "truth",
        "after 2 steps",
        "Test episode 3",
        "Failed episodes. Outputs were not finite in 2 of 60 (10 queries), 2 of 60 (100 queries)",
        "left out of the mean",
    ):
        assert words in page.text, words
    assert "Transductive" not in page.text
    assert "img" not in page.tags


@pytest.mark.parametrize(("ways", "shots"), [(20, 1), (20, 5), (2, 3)])
def test_other_sizes_of_episodes(tmp_path, ways, shots):
    page = read(finished_run(tmp_path, image_recipe(ways, shots, "running"), channels=3))
    each = max(1, 15 // ways)
    assert page.tags.count("img") == 4 * (ways * shots + ways * min(each, 4))
    assert "Transductive" not in page.text


def test_a_new_run_says_what_is_missing(tmp_path):
    page = read(make_run(tmp_path, image_recipe()))
    for words in (
        "This run has not begun.",
        "No points in the log yet.",
        "No evaluation on test episodes yet",
        "No test episodes are kept",
    ):
        assert words in page.text, words


def test_an_unfinished_run_shows_its_curve(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="running")
    write_log(run, 80)
    page = read(run)
    assert "80 of 300 outer steps done" in page.text
    assert "Query loss after adaptation" in page.text


def test_an_empty_result_before_any_step_and_one_point(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="failed")
    write_log(run, 1)
    assert "This run ended early." in read(run).text


def test_losses_that_are_not_finite_are_counted(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="failed")
    writer = LogWriter(run.claim({"bits": "unverified"}))
    for step, loss in enumerate([1.0, math.nan, math.inf, 0.5], 1):
        writer.add(step, {"train/loss": loss, "train/accuracy": 0.5})
    writer.flush()
    page = read(run)
    assert "2 steps without a finite loss are left out." in page.text
    assert "Bits unverified." in page.text


@pytest.mark.parametrize(
    "name",
    ["test-1q.json", "test-1q.parquet", "examples.safetensors"],
)
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    run = finished_run(tmp_path)
    path = run.evaluation / name
    data = path.read_bytes()
    flipped = b"\xff" * 16 + data[16:]
    path.write_bytes({"cut": data[: len(data) // 2], "flipped": flipped, "empty": b""}[damage])
    page = read(run)
    assert f"evaluation/{name} cannot be read" in page.text


def test_a_file_of_other_content_is_named(tmp_path):
    run = finished_run(tmp_path)
    (run.evaluation / "test-1q.json").write_text(json.dumps({"part": "test", "by_step": []}))
    save_file({"ids": np.arange(3)}, run.evaluation / "examples.safetensors")
    (run.path / "recipe.toml").write_text("not = [toml")
    page = read(run)
    assert "evaluation/test-1q.json cannot be read" in page.text
    assert "no tensor support_x" in page.text
    assert "The recipe cannot be read" in page.text
    assert "15 queries per class" in page.text


def test_examples_of_mixed_shapes_do_not_stop_the_report(tmp_path):
    run = finished_run(tmp_path)
    path = run.evaluation / "examples.safetensors"
    from safetensors.numpy import load_file

    tensors = load_file(path)
    save_file({**tensors, "query_y": tensors["query_y"][:, :3]}, path)
    assert "cannot be drawn" in read(run).text


def test_no_run_no_report(tmp_path):
    with pytest.raises(RunError, match=r"run\.json"):
        write_report(RunDir(tmp_path))


def test_an_evaluation_without_any_finite_episode(tmp_path):
    run = make_run(tmp_path, parse_recipe(FUNCTIONS), status="finished")
    write_results(run, 10, regression=True, failed=60)
    page = read(run)
    assert "none finite" in page.text
    assert "60 of 60" in page.text


def test_words():
    assert plural(1, "query") == "1 query"
    assert plural(15, "query") == "15 queries"
    assert plural(2, "way") == "2 ways"
    assert number(1.6) == "1.60"
    assert number(0.0967, like=1.14) == "0.10"
    assert number(123.4) == "123"
    assert number(1e-7) == "1.00e-07"
    assert number(0.0) == "0"
    assert number(math.nan) == "nan"
    assert label(0) == "A"
    assert label(25) == "Z"
    assert label(26) == "27"


def test_smoothing_keeps_the_mean_of_a_constant_and_the_ends():
    assert np.allclose(smooth(np.full(20, 3.0), 7), 3.0)
    ramp = np.arange(30, dtype=float)
    assert np.allclose(smooth(ramp, 5)[2:-2], ramp[2:-2])
    assert smooth(ramp, 5)[0] == pytest.approx(1.0)


def test_the_recipe_decides_which_protocol_leads(tmp_path):
    recipe = image_recipe()
    own = recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"queries": 15})})
    run = make_run(tmp_path, own, status="finished")
    write_results(run, 1)
    write_results(run, 15)
    text = read(run).text
    assert text.index("15 queries per class") < text.index("1 query per class")


# --- other protocols, and files that somebody altered ---------------------------------------------


def test_other_protocols_stand_beside_the_recipes_own(tmp_path):
    run = finished_run(tmp_path)
    write_results(run, 15, name="test-5shot-3step-15q", shots=5, figure_step=3)
    write_results(run, 1, name="val-1q")
    for episodes in range(100, 600, 100):  # more than there are colours
        write_results(run, 1, name=f"test-{episodes}episodes-1q")
    page = read(run)
    own = "60 test episodes, 1 query per class"
    other = "60 test episodes, 5 shots, 3 steps, 15 queries per class (test-5shot-3step-15q)"
    for words in (
        own,
        other,
        "60 validation episodes, 1 query per class (val-1q)",
        "60 test episodes, 500 episodes, 1 query per class (test-500episodes-1q)",
    ):
        assert words in page.text, words
    assert page.text.index(own) < page.text.index(other)
    # In the legend of the curve and in the table; the figures on top are the recipe's own.
    assert page.text.count("5 shots, 3 steps, 15 queries per class") == 2
    assert page.text.count("of unseen classes") == 2
    assert "Different checkpoints." not in page.text


def test_figures_of_another_checkpoint_are_told_of(tmp_path):
    run = finished_run(tmp_path)
    write_results(run, 5, name="test-5q", checkpoint=100)
    page = read(run)
    assert "The figures are of step 250, but not all: 5 queries per class: step 100." in page.text
    assert "4" * 64 in page.text  # both digests are among the facts
    assert "a" * 64 in page.text


@pytest.mark.parametrize("regression", [False, True])
def test_divergence_is_told_for_every_step(tmp_path, regression):
    recipe = parse_recipe(FUNCTIONS) if regression else image_recipe()
    run = make_run(tmp_path, recipe, status="finished")
    write_results(run, recipe.eval.queries, regression=regression, failed=7)
    path = run.evaluation / f"test-{recipe.eval.queries}q.json"
    raw = json.loads(path.read_text())
    raw["failed_by_step"] = [0, 7, 60, 60]
    raw["by_step"][2]["mean"] = 3.4e26 if regression else 0.5
    raw["by_step"][3] |= {"mean": None, "ci95": None, "median": None}
    path.write_text(json.dumps(raw))
    page = read(run)
    told = "step 1: 7 of 60 episodes diverged, steps 2 to 3: 60 of 60 episodes diverged."
    assert told in page.text
    assert page.text.count("7 of 60 episodes diverged") == 2  # below the curve and in the table
    assert ("median" in page.text) == regression
    if regression:
        assert "3.40e+26" in page.text
        assert "The curve is the mean over the rest." in page.text
    else:
        assert "Their accuracy is 0." in page.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trained_steps", -100),
        ("trained_steps", 10**400),
        ("trained_steps", "1"),
        ("trained_steps", math.inf),
        ("figure_step", 4),
        ("figure_step", -1),
        ("episodes", 0),
        ("episodes", -1),
        ("episodes", 2.5),
        ("episodes", True),
        ("queries", 0),
        ("queries", -(10**30)),
        ("failed", 61),
        ("failed_by_step", [0, 0, 0, 61]),
        ("failed_by_step", [0, 0]),
        ("failed_by_step", 3),
        ("by_step", {}),
        ("by_step", [{"step": 5}] * 4),
        ("by_step", [{"step": 0, "mean": 10**400, "ci95": 0, "worst_decile": 0, "loss": 0}]),
        ("by_step", [{"step": 0, "mean": "high", "ci95": 0, "worst_decile": 0, "loss": 0}]),
        ("kind", "regression"),
        ("kind", ["classification"]),
        ("part", "train"),
        ("checkpoint", {"step": -1, "params_sha256": "c"}),
        ("checkpoint", []),
        ("norm", None),
    ],
)
def test_an_altered_evaluation_is_named(tmp_path, name, value):
    run = make_run(tmp_path, image_recipe(), status="finished")
    write_results(run, 1)
    path = run.evaluation / "test-1q.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    text = read(run).text
    assert "evaluation/test-1q.json cannot be read" in text
    assert "No evaluation on test episodes yet" in text


def test_more_episodes_than_rows_is_named(tmp_path):
    run = finished_run(tmp_path)
    path = run.evaluation / "test-1q.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"episodes": 600}))
    text = read(run).text
    assert "evaluation/test-1q.parquet cannot be read: 600 episodes x 4 steps expected" in text


def test_an_evaluation_of_before_can_be_read(tmp_path):
    run = make_run(tmp_path, parse_recipe(FUNCTIONS), status="finished")
    write_results(run, 10, regression=True)
    path = run.evaluation / "test-10q.json"
    raw = json.loads(path.read_text())
    del raw["figure_step"], raw["shots"]
    for row in raw["by_step"]:
        del row["median"]
    path.write_text(json.dumps(raw))
    page = read(run)
    assert "cannot be read" not in page.text
    assert "after 1 adaptation step" in page.text
    assert "median" not in page.text
