"""Runs beside each other: what differs, paired differences, cost, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compared_runs import EPISODES, compared_run, drawn_classes, scores, write_scores
from damage import flip
from scipy import stats

import metadist
from metadist.errors import RunError
from metadist.runs.run_dir import RunDir

NAMES = ["base", "good", "same"]


def compare(root: Path, *names: str, **options: Any) -> Mapping[str, Any]:
    return metadist.compare(names, runs_dir=root, **options)


def by_name(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {run["run"]: run for run in result["runs"]}


def test_what_differs_and_nothing_else(root):
    found = compare(root, *NAMES)["differences"]
    assert found == {
        "inner.lr": {"base": 0.4, "good": 0.1, "same": 0.4},
        "outer.batch": {"base": 4, "good": 8, "same": 4},
        "outer.lr": {"base": 0.001, "good": 0.001, "same": 0.01},
        "workers": {"base": 2, "good": 2, "same": 4},
    }


def test_other_data_versions_numerics_and_plugins_are_told(tmp_path):
    compared_run(tmp_path, "a")
    compared_run(
        tmp_path,
        "b",
        "algorithm.name=fomaml",
        "algorithm.mine=3",
        dataset={"name": "strokes", "split": "", "digest": "c" * 64},
        versions={"metadist": "0.2.0", "torch": "2.13.0"},
        plugins={"algorithm": {"name": "mine", "digest": "5" * 64}},
        made_by=[{"commit": "1" * 40, "machine": "m"}, {"commit": "2" * 40, "machine": "m"}],
    )
    found = compare(tmp_path, "a", "b")["differences"]
    assert found["algorithm.name"] == {"a": "maml", "b": "fomaml"}
    assert found["algorithm.mine"] == {"a": None, "b": 3}
    assert found["dataset.digest"] == {"a": "d" * 64, "b": "c" * 64}
    assert found["versions.metadist"] == {"a": "0.1.0", "b": "0.2.0"}
    assert found["plugins.algorithm.digest"] == {"a": None, "b": "5" * 64}
    assert found["commit"] == {"a": None, "b": f"{'1' * 40}; {'2' * 40}"}
    assert not {"dataset.name", "versions.torch", "data.dataset", "numerics.torch"} & set(found)


def test_figures_and_paired_differences(root):
    result = compare(root, *NAMES)
    assert (result["protocol"], result["score"], result["baseline"]) == (
        "test-1q",
        "accuracy",
        "base",
    )
    runs = by_name(result)
    tables = {n: pq.read_table(root / n / "evaluation/test-1q.parquet") for n in NAMES}
    column = {n: t["accuracy"].to_numpy()[t["step"].to_numpy() == 1] for n, t in tables.items()}
    for name in NAMES:
        assert runs[name]["accuracy"] == pytest.approx(column[name].mean())
        half = 1.96 * column[name].std() / math.sqrt(EPISODES)
        assert runs[name]["ci95"] == pytest.approx(half)
    assert runs["base"]["difference"] is None
    for name, verdict in (("good", "better"), ("same", "within noise")):
        found = runs[name]["difference"]
        interval = stats.ttest_rel(column[name], column["base"]).confidence_interval()
        assert found["mean"] - found["ci95"] == pytest.approx(interval.low)
        assert found["mean"] + found["ci95"] == pytest.approx(interval.high)
        assert (found["episodes"], found["left_out"], found["verdict"]) == (EPISODES, 0, verdict)
    # Seen from the other side.
    turned = by_name(compare(root, *NAMES, baseline="good"))
    assert turned["base"]["difference"]["verdict"] == "worse"
    assert turned["base"]["difference"]["mean"] == pytest.approx(
        -runs["good"]["difference"]["mean"]
    )


def test_a_baseline_that_was_not_named_joins_them(root):
    result = compare(root, "good", "same", baseline="base")
    assert [run["run"] for run in result["runs"]] == ["base", "good", "same"]
    assert result["baseline"] == "base"


def test_cost_curves_and_learner(root):
    runs = by_name(compare(root, *NAMES))
    # 100 steps of 8 tasks at 50 tasks per second, with 2 workers.
    good = runs["good"]
    assert (good["tasks"], good["seconds"], good["worker_seconds"]) == (800, 16.0, 32.0)
    assert runs["same"]["worker_seconds"] == 4 * runs["same"]["seconds"] == 32.0
    assert good["validation"] == [[20, 0.1], [40, 0.2], [60, 0.3], [80, 0.4], [100, 0.5]]
    assert (good["parameters"], good["derivative_order"], good["estimator"]) == (1234, 2, "exact")
    assert (good["best_step"], good["steps"], good["tasks_per_step"]) == (80, 100, 8)


def test_failed_episodes_of_classes_are_wrong_and_of_functions_left_out(tmp_path):
    bad = scores(0.6, seed=4)
    bad[:3] = math.nan
    compared_run(tmp_path, "a")
    compared_run(tmp_path, "b", score=bad)
    found = by_name(compare(tmp_path, "a", "b"))["b"]
    assert found["failed"] == 3
    wrong = np.where(np.isfinite(bad), bad, 0.0)
    assert found["difference"]["mean"] == pytest.approx(float((wrong - scores(0.6)).mean()))
    assert found["difference"]["left_out"] == 0

    compared_run(tmp_path, "c", regression=True)
    compared_run(tmp_path, "d", regression=True, score=bad + 0.2)
    result = compare(tmp_path, "c", "d")
    assert (result["score"], result["better"]) == ("mse", "lower")
    found = by_name(result)["d"]["difference"]
    assert (found["episodes"], found["left_out"], found["verdict"]) == (EPISODES - 3, 3, "worse")
    assert found["mean"] == pytest.approx(float(np.nanmean(bad + 0.2 - scores(0.6))))


@pytest.mark.parametrize(
    ("override", "digest", "reason"),
    [
        ("eval.seed=7", "f", "eval.seed 0 against 7"),
        ("data.ways=20", "f", "ways 5 against 20"),
        ("data.shots=5", "f", "shots 1 against 5"),
        ("data.dataset=omniglot", "f", "data.dataset strokes against omniglot"),
        ("inner.lr=1.0", "f", "another generator"),
    ],
)
def test_other_episodes_are_not_paired_and_the_reason_is_told(tmp_path, override, digest, reason):
    compared_run(tmp_path, "a", override, digest=digest * 64)
    compared_run(tmp_path, "b")
    found = by_name(compare(tmp_path, "a", "b", baseline="b"))["a"]["difference"]
    assert set(found) == {"not_paired"}
    turned = reason.split(" against ")
    if len(turned) == 2:
        name, _, value = turned[0].rpartition(" ")
        reason = f"{name} {turned[1]} against {value}"
    assert found["not_paired"].startswith("other episodes (")
    assert reason in found["not_paired"]


def test_another_number_of_the_same_episodes_is_paired(tmp_path):
    compared_run(tmp_path, "a")
    compared_run(tmp_path, "b", score=scores(0.6, seed=5)[:25])
    assert by_name(compare(tmp_path, "a", "b"))["b"]["difference"]["episodes"] == 25


def test_the_protocol_is_one_that_all_share(tmp_path):
    a = compared_run(tmp_path, "a")
    b = compared_run(tmp_path, "b", "eval.queries=5")
    with pytest.raises(RunError, match=r"no results of one protocol .*a: test-1q; b: test-5q"):
        compare(tmp_path, "a", "b")
    for run in (a, b):
        write_scores(run, scores(0.5), name="test-15q")
        write_scores(run, scores(0.4), name="val-1q")
    assert compare(tmp_path, "a", "b")["protocol"] == "test-15q"
    validation = compare(tmp_path, "a", "b", protocol="val-1q")
    assert validation["part"] == "val"
    assert validation["runs"][0]["accuracy"] == pytest.approx(scores(0.4).mean())
    with pytest.raises(RunError, match=r"'test-7q'; there are: test-1q, test-15q, val-1q"):
        compare(tmp_path, "a", "b", protocol="test-7q")


def test_results_of_an_older_checkpoint_are_refused(root):
    for name in NAMES:
        run = RunDir(root / name)
        write_scores(run, scores(0.5), name="test-15q", checkpoint=80 if name == "base" else 40)
    with pytest.raises(RunError, match=r"step 40, test-1q.json is of step 80"):
        compare(root, *NAMES, protocol="test-15q")


def test_names_that_are_not_unique_become_paths(root, tmp_path):
    compared_run(tmp_path / "other", "base", score=scores(0.6, seed=6))
    result = compare(root, "base", str(tmp_path / "other/base"))
    assert [run["run"] for run in result["runs"]] == [
        str(root / "base"),
        str(tmp_path / "other/base"),
    ]


def test_many_runs_stand_in_the_order_of_their_figures(tmp_path):
    means = np.linspace(0.8, 0.3, 14)
    for i in range(14):
        compared_run(tmp_path, f"r{i:02}", score=scores(float(means[(5 * i) % 14]), seed=i))
    names = [f"r{i:02}" for i in range(14)]
    result = compare(tmp_path, *names)
    figures = [run["accuracy"] for run in result["runs"]]
    assert result["ranked"]
    assert figures == sorted(figures, reverse=True)
    assert result["baseline"] == "r00"
    few = compare(tmp_path, *names[:12])
    assert not few["ranked"]
    assert [run["run"] for run in few["runs"]] == names[:12]


# --- classes ----------------------------------------------------------------------------------


def test_differences_for_new_classes(tmp_path):
    """One class is easy for the one and hard for the other; episodes of it are many."""
    known = drawn_classes(EPISODES, 8)
    easy = (known.ids == 0).any(1)
    compared_run(tmp_path, "a", score=scores(0.5), classes=8)
    compared_run(tmp_path, "b", score=scores(0.5) + 0.1 * easy, classes=8)
    compared_run(tmp_path, "c", score=scores(0.7), classes=8)
    runs = by_name(compare(tmp_path, "a", "b", "c"))
    column = pq.read_table(tmp_path / "a/evaluation/test-1q.parquet")["accuracy"].to_numpy()
    assert runs["a"]["classes"] == 8
    assert runs["a"]["ci95_classes"] == pytest.approx(float(known.ci95(column.reshape(-1, 2))[1]))
    b, c = (runs[name]["difference"] for name in "bc")
    assert (b["verdict"], b["verdict_classes"]) == ("better", "within noise")
    assert b["ci95_classes"] == pytest.approx(float(known.ci95(0.1 * easy[:, None])[0]))
    assert (c["verdict"], c["verdict_classes"]) == ("better", "better")


def test_one_run_that_has_recorded_the_classes_tells_of_both(tmp_path):
    score = scores(0.6, seed=5)
    compared_run(tmp_path, "old")
    compared_run(tmp_path, "new", score=score, classes=20)
    compared_run(tmp_path, "few", score=score[:25], classes=20)
    result = compare(tmp_path, "old", "new", "few")
    runs = by_name(result)
    assert [runs[n]["classes"] for n in ("old", "new", "few")] == [None, 20, 20]
    assert runs["old"]["ci95_classes"] is None
    known = drawn_classes(EPISODES, 20)
    apart = (score - scores(0.6))[:, None]
    for name, count in (("new", EPISODES), ("few", 25)):
        found = runs[name]["difference"]["ci95_classes"]
        assert found == pytest.approx(float(known.ci95(apart[:count])[0]))
    same = by_name(compare(tmp_path, "old", "new", baseline="new"))["old"]["difference"]
    assert same["ci95_classes"] == pytest.approx(runs["new"]["difference"]["ci95_classes"])


def test_a_damaged_record_of_classes_is_refused(tmp_path):
    compared_run(tmp_path, "a", classes=20)
    compared_run(tmp_path, "b", classes=20)
    flip(tmp_path / "b/evaluation/test-1q.classes.parquet", 60)
    with pytest.raises(RunError, match=r"test-1q.classes.parquet cannot be read.*evaluate b"):
        compare(tmp_path, "a", "b")


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "at least two runs are needed to compare, there is none"),
        (["base"], "at least two runs are needed to compare, there is base"),
        (["base", "base"], "named twice"),
        (["base", "gone"], "no run 'gone'"),
    ],
)
def test_too_few_and_unknown_runs(root, names, words):
    with pytest.raises(RunError, match=words):
        compare(root, *names)


def test_runs_and_an_experiment_are_too_much(root):
    with pytest.raises(RunError, match="not both"):
        compare(root, *NAMES, experiment="metadist")


@pytest.mark.parametrize("status", ["running", "failed", "created"])
def test_a_run_that_has_not_finished(root, status):
    compared_run(root, "open", status=status)
    with pytest.raises(RunError, match=f"status is '{status}'.*--resume open"):
        compare(root, "base", "open")


def test_runs_of_other_measures(root):
    other = compared_run(root, "sines", "eval.queries=1", regression=True)
    assert (other.evaluation / "test-1q.json").is_file()
    with pytest.raises(RunError, match=r"do not measure the same \(.*sines: mse"):
        compare(root, "base", "sines")


def test_damaged_and_foreign_tables(root):
    table = root / "good/evaluation/test-1q.parquet"
    original = table.read_bytes()
    flip(table, 60)
    with pytest.raises(RunError, match=r"test-1q.parquet cannot be read.*metadist evaluate good"):
        compare(root, *NAMES)
    table.write_bytes(original[:200])
    with pytest.raises(RunError, match=r"test-1q.parquet cannot be read"):
        compare(root, *NAMES)
    table.unlink()
    with pytest.raises(RunError, match=r"test-1q.parquet cannot be read"):
        compare(root, *NAMES)
    # Whole, but of another run.
    table.write_bytes((root / "base/evaluation/test-1q.parquet").read_bytes())
    with pytest.raises(RunError, match="do not belong together"):
        compare(root, *NAMES)


def test_rows_of_other_episodes_are_noticed(root):
    path = root / "good/evaluation/test-1q.parquet"
    table = pq.read_table(path)
    episode = table["episode"].to_numpy().copy()
    episode[episode == 3] = 1003
    index = table.schema.get_field_index("episode")
    pq.write_table(table.set_column(index, "episode", pa.array(episode)), path)
    with pytest.raises(RunError, match="episodes 0 to 39"):
        compare(root, *NAMES)


def test_damaged_figures_records_and_recipes(root):
    figures = root / "good/evaluation/test-1q.json"
    text = figures.read_text()
    figures.write_text("{")
    with pytest.raises(RunError, match=r"test-1q.json cannot be read"):
        compare(root, *NAMES)
    figures.write_text(text)
    attempt = root / "good/attempts/0001.json"
    attempt.write_text(json.dumps({"attempt": 1}))
    with pytest.raises(RunError, match=r"0001.json: damaged"):
        compare(root, *NAMES)
    attempt.unlink()
    recipe = root / "good/recipe.toml"
    recipe.write_text(recipe.read_text().replace("lr = 0.1", "lr = 0.2"))
    with pytest.raises(RunError, match=r"not the recipe that run.json names"):
        compare(root, *NAMES)
    for path in (root / "good/evaluation").iterdir():
        path.unlink()
    with pytest.raises(RunError, match="no results; make them"):
        compare(root, *NAMES)
