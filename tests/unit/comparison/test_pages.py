"""A comparison as lines, as a table of values, as a page, and on the command line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from compared_runs import compared_run, scores
from report_page import Page, seen

import metadist
from metadist.cli.main import main
from metadist.comparison import render, text, to_csv
from metadist.errors import RunError
from metadist.objectives import MSE, Metric
from metadist.report.text_table import short

NAMES = ("base", "good", "same")


@pytest.fixture
def result(root: Path) -> Mapping[str, Any]:
    return metadist.compare(NAMES, runs_dir=root)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="metadist")


def many(root: Path, count: int) -> Mapping[str, Any]:
    for i in range(count):
        overrides = (f"inner.lr={round(0.1 + i / 100, 2)}", f"run.seed={i}")
        compared_run(root, f"run-{i:02}", *overrides, score=scores(0.5 + i / 100, seed=i))
    return metadist.compare([f"run-{i:02}" for i in range(count)], runs_dir=root)


def test_lines_say_everything_and_stand_in_columns(result):
    lines = text(result)
    page = "\n".join(lines)
    for run_ in result["runs"]:
        assert f"{100 * run_['accuracy']:.2f} ± {100 * run_['ci95']:.2f} %" in page
    good = result["runs"][1]["difference"]
    assert f"+{100 * good['mean']:.2f} ± {100 * good['ci95']:.2f} %" in page
    for word in ("baseline", "better", "within noise", "2 (exact)", "1,234", "0:16", "▁", "█"):
        assert word in page
    assert re.search(r"^inner\.lr +0\.4 +0\.1 +0\.4$", page, re.MULTILINE)
    assert "model.norm" not in page
    for head in (line for line in lines if "----" in line):
        block = lines[lines.index(head) - 1 :]
        gaps = [m.start() for m in re.finditer("  -", head)]
        for line in block[: block.index("") if "" in block else None]:
            assert all(line[at : at + 2].strip() == "" for at in gaps), line


def test_what_differs_is_shown_and_numbers_are_rounded(tmp_path):
    rate, long = 0.048372938472393847, "maml_on_a_folder_of_images_of_birds_of_the_{}_of_the_island"
    facts: Any = {
        "made_by": [{"commit": "c", "machine": "Intel(R) Xeon(R) Platinum 8481C at 2 GHz"}]
    }
    other: Any = {
        "made_by": [{"commit": "c", "machine": "Intel(R) Xeon(R) Platinum 8488C at 2 GHz"}]
    }
    compared_run(tmp_path, long.format("north"), f"inner.lr={rate}", "outer.lr=0.25", **facts)
    compared_run(tmp_path, long.format("south"), f"inner.lr={2 * rate}", "outer.lr=0.25000001",
                 digest="f" * 64, **other)  # fmt: skip
    for name, place in (("x", "north"), ("y", "south")):
        dataset = f"data.dataset=image_folder-birds-of-the-{place}"
        compared_run(tmp_path, name, dataset, digest=name * 64)
    result = metadist.compare([long.format("north"), long.format("south")], runs_dir=tmp_path)
    for width in (80, 100):
        lines = text(result, width)
        assert max(map(len, lines)) <= width, "\n".join(lines)
        page = "\n".join(lines)
        for word in ("north", "south", "8481C", "8488C", "▁▃"):
            assert word in page
        assert re.search(r"^inner\.lr +0\.04837 +0\.09675$", page, re.MULTILINE)
        assert re.search(r"^outer\.lr +0\.25 +0\.25000001$", page, re.MULTILINE)
    html = seen(render(result))
    assert str(rate) not in html
    assert "0.04837" in html
    (row, _) = csv.DictReader(io.StringIO(to_csv(result)))
    assert float(row["inner.lr"]) == rate
    assert row["machine"].endswith("8481C at 2 GHz")
    assert result["differences"]["inner.lr"][long.format("north")] == rate
    # Why runs are not paired is told in the words that differ, too.
    page = "\n".join(text(metadist.compare(["x", "y"], runs_dir=tmp_path)))
    assert "(data.dataset …south against …north)" in " ".join(page.split())


@pytest.mark.parametrize("room", [12, 22, 40])
def test_texts_that_differ_still_do_when_they_are_cut(room):
    digest = "0123456789abcdef" * 4
    texts = [f"{digest[:at]}{mark}{digest[at:]}" for at in (0, 20, 33, 64) for mark in "xy"]
    for group in (texts, texts[2:4], [f"a {t}" for t in texts[4:6]], [*texts[:2], "short", "–"]):
        cuts = short(group, room)
        assert len(set(cuts)) == len(group)
        assert all(t == cut or "…" in cut for t, cut in zip(group, cuts, strict=True))
    assert short([digest], room) == short([digest] * 2, room)[:1]
    assert max(map(len, short(texts[4:6], room))) <= room


def test_lines_of_twelve_runs_fit_the_terminal(tmp_path):
    result = many(tmp_path, 12)
    for width, blocks in ((40, 3), (60, 2), (100, 1)):
        lines = text(result, width)
        start = next(i for i, line in enumerate(lines) if line.startswith("differs"))
        assert max(map(len, lines[start:])) <= width
        assert sum(line.startswith("differs") for line in lines) == blocks
    assert "Of 11 runs as good as the baseline 0.6 would be called" in " ".join(
        " ".join(lines).split()
    )


def test_many_runs_have_a_row_each(tmp_path):
    result = many(tmp_path, 14)
    page = "\n".join(text(result))
    assert "14 runs, the best first" in page
    assert re.search(r"^ ?1 +run-13 ", page, re.MULTILINE)
    assert re.search(r"^differs +inner\.lr +run\.seed$", page, re.MULTILINE)
    assert re.search(r"^1 +0\.23 +13$", page, re.MULTILINE)
    html = seen(render(result))
    assert "Drawn are the 11 best runs and the baseline." in html


def test_lines_of_runs_that_differ_in_nothing(tmp_path):
    compared_run(tmp_path, "a")
    compared_run(tmp_path, "b")
    result = metadist.compare(["a", "b"], runs_dir=tmp_path)
    assert "Nothing differs between these runs." in text(result)
    assert "Nothing differs between these runs." in seen(render(result))


def test_reasons_stand_below(tmp_path):
    bad = scores(0.9, seed=1)
    bad[:4] = np.nan
    compared_run(tmp_path, "a", regression=True)
    compared_run(tmp_path, "b", regression=True, score=bad)
    compared_run(tmp_path, "c", "eval.seed=3", regression=True, digest="f" * 64)
    result = metadist.compare(["a", "b", "c"], runs_dir=tmp_path)
    for page in ("\n".join(text(result, 200)), seen(render(result))):
        assert "b: 4 of 40 episodes are left out of the difference" in page
        assert "c: not paired with the baseline: other episodes (eval.seed 3 against 0)" in page
        assert "worse" in page
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert [row["verdict"] for row in rows] == ["baseline", "worse", "not paired"]
    assert rows[2]["difference"] == ""
    assert "eval.seed" in rows[2]["not_paired"]


def test_csv_holds_a_row_for_each_run_with_all_digits(result):
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert [row["run"] for row in rows] == list(NAMES)
    for row, run_ in zip(rows, result["runs"], strict=True):
        assert float(row["accuracy"]) == run_["accuracy"]
        assert float(row["tasks"]) == run_["tasks"]
        assert Path(row["path"]).is_dir()
    assert [row["inner.lr"] for row in rows] == ["0.4", "0.1", "0.4"]
    assert [row["workers"] for row in rows] == ["2", "2", "4"]
    assert float(rows[1]["difference"]) == result["runs"][1]["difference"]["mean"]
    assert [row["verdict"] for row in rows] == ["baseline", "better", "within noise"]


@pytest.mark.drawn
def test_the_page_needs_nothing_else_and_says_everything(result):
    html = render(result)
    page = Page(html)
    assert not [link for link in page.links if not link.startswith(("#", "data:"))]
    assert "script" not in page.tags
    assert "default-src 'none'" in html
    assert len(page.ids) == len(set(page.ids))
    assert {"differences", "steps", "tasks"} <= set(page.ids)
    words = seen(html)
    for word in (*NAMES, "inner.lr", "0.1", "better", "within noise", "baseline", "tasks seen",
                 "outer steps", "worker-seconds", "2 (exact)"):  # fmt: skip
        assert word in words
    good = result["runs"][1]["difference"]
    assert f"+{100 * good['mean']:.2f} ± {100 * good['ci95']:.2f} %" in words
    assert render(result) == html


def test_figures_for_new_classes_stand_in_a_table_of_their_own(tmp_path):
    compared_run(tmp_path, "a", classes=20)
    compared_run(tmp_path, "b", score=scores(0.7, seed=1), classes=20)
    compared_run(tmp_path, "old")
    result = metadist.compare(["a", "b", "old"], runs_dir=tmp_path)
    b = result["runs"][1]
    apart = b["difference"]
    lines = "\n".join(text(result, 300))
    for page in (lines, seen(render(result))):
        assert "accuracy on 40 test episodes of 20 classes, test-1q" in page
        assert f"{100 * b['accuracy']:.2f} ± {100 * b['ci95_classes']:.2f} %" in page
        assert f"+{100 * apart['mean']:.2f} ± {100 * apart['ci95_classes']:.2f} %" in page
        assert "20 test classes are fewer than 5 x 5 ways" in page
        assert "old: the classes of the episodes are not recorded" in page
    assert re.search(
        r"^for new classes +accuracy +paired difference +verdict$", lines, re.MULTILINE
    )
    assert re.search(r"^a +\d\d\.\d\d ± \d\.\d\d % +– +baseline$", lines, re.MULTILINE)
    assert re.search(r"^old +– +\S+ ± \S+ % +\w", lines, re.MULTILINE)
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert [row["classes"] for row in rows] == ["20", "20", ""]
    assert float(rows[1]["difference_ci95_classes"]) == apart["ci95_classes"]
    assert rows[1]["verdict_classes"] == apart["verdict_classes"]
    # Functions have none, and nothing is said of them.
    for name in ("f", "g"):
        compared_run(tmp_path, name, regression=True)
    result = metadist.compare(["f", "g"], runs_dir=tmp_path)
    head = to_csv(result).splitlines()[0]
    assert "class" not in "\n".join([*text(result), head])


def test_an_interval_for_new_classes_that_tells_nothing_is_none(tmp_path):
    for name in ("a", "b"):
        compared_run(tmp_path, name, classes=20)
    result = metadist.compare(["a", "b"], runs_dir=tmp_path).to_dict()
    for run in result["runs"]:
        run["ci95_classes"] = 1.45
    result["runs"][1]["difference"]["ci95_classes"] = 1.2
    page = seen(render(result))
    assert page.count("too few classes") == 3
    assert "145" not in page


def test_text_of_runs_is_escaped(tmp_path):
    compared_run(tmp_path, "a", "algorithm.name=<script>alert(1)</script>")
    compared_run(tmp_path, "b")
    html = render(metadist.compare(["a", "b"], runs_dir=tmp_path))
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_runs_without_log_or_facts_are_shown_with_what_there_is(tmp_path):
    for name in ("a", "b"):
        found = compared_run(tmp_path, name, learner=None, dataset=None, versions=None)
        for path in found.log.iterdir():
            path.unlink()
    result = metadist.compare(["a", "b"], runs_dir=tmp_path)
    assert result["runs"][0]["seconds"] is None
    assert result["runs"][0]["validation"] == []
    assert any(line.rstrip().endswith("–         –") for line in text(result))
    assert "None of these runs has validated" in seen(render(result))
    json.dumps(result.to_dict(), allow_nan=False)


def test_scores_that_are_not_finite(tmp_path):
    compared_run(tmp_path, "a", regression=True, score=np.full(5, np.nan))
    compared_run(tmp_path, "b", regression=True, score=np.full(5, 1e300))
    result = metadist.compare(["a", "b"], runs_dir=tmp_path)
    assert result["runs"][1]["difference"]["verdict"] == "too few episodes"
    assert "none finite" in "\n".join(text(result))
    render(result)
    json.dumps(result.to_dict(), allow_nan=False)


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_and_writes(root, tmp_path):
    html, table = tmp_path / "out/page.html", tmp_path / "out/table.csv"
    arguments = ["compare", *NAMES, "--runs-dir", str(root)]
    done = run(*arguments, "--json", "--html", str(html), "--csv", str(table))
    assert done.exit_code == 0, done.output
    result = metadist.compare(NAMES, runs_dir=root)
    assert json.loads(done.stdout) == json.loads(json.dumps(result.to_dict()))
    assert "within noise" in done.stderr
    # On a terminal, too, JSON ends it.
    assert json.loads(done.output.splitlines()[-1]) == json.loads(done.stdout)
    assert html.read_text() == render(result)
    assert table.read_text() == to_csv(result)
    plain = run(*arguments)
    assert "within noise" in plain.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare"], "name at least two runs, or give --experiment or --filter"),
        (["compare", "base"], "at least two runs are needed to compare, there is base"),
        (["compare", "base", "gone"], "no run 'gone'"),
        (["compare", "base", "good", "--protocol", "test"], "no results of protocol 'test'"),
        (["compare", "base", "good", "--baseline", "gone"], "no run 'gone'"),
        (["compare", "base", "--html", "good", "same"], "--html good: a file name ending in .html"),
        (["compare", "base", "same", "--csv", "good"], "--csv good: a file name ending in .csv"),
        (["compare", "--experiment", "metadist"], "there is no tracking store"),
        (["compare", "base", "good", "--filter", "a = 1"], "not both"),
    ],
    ids=" ".join,
)
def test_mistakes_end_in_one_line(root, monkeypatch, arguments, words):
    monkeypatch.chdir(root)
    done = run(*arguments, "--runs-dir", ".")
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    *_, error = done.stderr.splitlines()
    assert error.startswith("Error:")
    assert words in error
    assert not (root / "mlflow.db").exists()


def test_a_page_cannot_take_the_place_of_a_directory(root, tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError, match="directory"):
        metadist.compare(NAMES, runs_dir=root, html=tmp_path / "page.html")
    with pytest.raises(RunError, match=r"ending in .csv"):
        metadist.compare(NAMES, runs_dir=root, csv=tmp_path / "table.txt")


@pytest.mark.drawn
def test_a_strangers_metric_and_further_ones(tmp_path):
    """Names, directions and units as the record says; what an objective measures beside it, too."""
    gain = Metric("gain", "return", higher_is_better=True)
    hits = Metric("hits", "hits among five", higher_is_better=True, percent=True)
    for name, mean in (("f", 0.5), ("g", 0.9)):
        compared_run(
            tmp_path, name, regression=True, score=scores(mean), metric=gain, others=(hits, MSE)
        )
    compared_run(tmp_path, "h", regression=True, score=scores(0.2), metric=gain)
    result = metadist.compare(["f", "g", "h"], runs_dir=tmp_path)
    assert (result["score"], result["better"]) == ("gain", "higher")
    assert result["metric"] == gain.as_dict()
    assert [run.verdict for run in result.runs] == ["baseline", "better", "worse"]
    assert result.metric == gain
    lines = "\n".join(text(result))
    assert "3 runs: return on 40 test episodes" in lines
    assert re.search(r"^further metrics +hits among five +mean squared error$", lines, re.MULTILINE)
    assert re.search(r"^f +0\.\d\d ± 0\.\d\d % +0\.00\d+ ± 0\.00\d+$", lines, re.MULTILINE)
    assert re.search(r"^h +– +–$", lines, re.MULTILINE)
    page = seen(render(result))
    for words in ("difference in return (right is better)", "Validation return against tasks seen"):
        assert words in page, words
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert float(rows[0]["hits"]) == result["runs"][0]["metrics"]["hits"]["mean"]
    assert rows[2]["hits"] == ""
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()


def test_built_in_metrics_need_no_description(root):
    result = metadist.compare(NAMES, runs_dir=root)
    assert "metric" not in result
    assert not [run for run in result["runs"] if "metrics" in run]


def test_runs_that_measure_other_things_are_not_compared(tmp_path):
    compared_run(tmp_path, "f", regression=True)
    compared_run(tmp_path, "g", regression=True, metric=Metric("gain", "return", True))
    with pytest.raises(RunError, match=r"do not measure the same \(f: mse, g: gain\).* apart"):
        metadist.compare(["f", "g"], runs_dir=tmp_path)


def test_runs_are_compared_by_a_metric_that_both_have(tmp_path):
    gain = Metric("gain", "return", higher_is_better=True)
    compared_run(tmp_path, "f", regression=True, score=scores(0.3, seed=1))
    compared_run(
        tmp_path, "g", regression=True, metric=gain, others=(MSE,), score=scores(0.6, seed=2)
    )
    names = ["f", "g"]
    with pytest.raises(RunError, match=r"g: gain\); choose one .* --metric \(metric=\): mse$"):
        metadist.compare(names, runs_dir=tmp_path)
    result = metadist.compare(names, runs_dir=tmp_path, metric="mse")
    assert (result["score"], result["better"]) == ("mse", "lower")
    _, g = result["runs"]
    apart = scores(0.6, seed=2) / 100 - scores(0.3, seed=1)
    assert g["mse"] == pytest.approx(float(scores(0.6, seed=2).mean()) / 100)
    assert g["difference"]["mean"] == pytest.approx(float(apart.mean()))
    assert g["difference"]["verdict"] == "better"
    assert [*g["metrics"]] == ["gain"]
    with pytest.raises(RunError, match=r"f: episodes of .* have no metric 'gain'; they have mse$"):
        metadist.compare(names, runs_dir=tmp_path, metric="gain")
    got = CliRunner().invoke(main, ["compare", *names, "--metric=mse", f"--runs-dir={tmp_path}"])
    assert got.exit_code == 0, got.output
    assert "mse" in got.output
