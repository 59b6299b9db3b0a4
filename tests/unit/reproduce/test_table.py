"""Published tables: their files, the verdicts, and how figures are combined."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from published import HEAD, row

from metadist.compute.resolve import resolve
from metadist.errors import TableError
from metadist.recipe.schema import load_recipe
from metadist.reproduce import load_table, table_names
from metadist.reproduce.measure import combine, over_seeds
from metadist.reproduce.plan import row_protocol
from metadist.reproduce.table import Published, Row
from metadist.reproduce.verdict import Ours, Verdict, judge, notes

# --- the tables that come along ---------------------------------------------------------------


def test_all_tables_are_there():
    assert table_names() == [
        "finetune-contrast",
        "first-order",
        "miniimagenet",
        "omniglot",
        "one-shot-trials",
        "polynomial-masks",
        "sinusoid-shots",
        "step-size",
    ]


@pytest.mark.parametrize("name", table_names())
def test_recipes_of_a_table_are_valid(name):
    found = load_table(name)
    for key in found.runs:
        settings = (*found.overrides_of(key, 1000), "outer.steps=1000")
        recipe = resolve(load_recipe(found.recipe_of(key), settings))
        for one in found.rows:
            if key in one.runs and one.metric in ("accuracy", "mse"):
                assert (one.metric == "accuracy") == (recipe.data.ways > 0)
                row_protocol(one, "x", recipe)


@pytest.mark.parametrize("name", table_names())
def test_a_table_says_whose_figures_it_has(name):
    for one in load_table(name).rows:
        if one.published is not None:
            assert len(one.source) > 10, one.id
            assert one.read_in, one.id
            # A figure that nobody has looked up must not be compared.
            assert ("memory" in one.read_in) == (not one.published.checked), one.id


def test_daggers_are_ensembles():
    dagger = {
        (name, one.id)
        for name in table_names()
        for one in load_table(name).rows
        if one.published is not None and one.published.ensemble
    }
    assert dagger == {
        ("omniglot", "mc2-ensemble"),
        ("omniglot", "mamlpp"),
        ("miniimagenet", "mc2-ensemble"),
        ("miniimagenet", "mamlpp"),
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[base", ["not valid TOML"]),
        ("", ["title", "Field required"]),
        (HEAD + "[runs.a]\n", ["rows", "Field required"]),
        (
            HEAD + "taskz = 1\n[runs.a]\n" + row("x", "a", "value = 1"),
            ["rows[1] 'x': taskz", "unknown key"],
        ),
        (
            HEAD + "[runs.a]\n" + row("x", "a", "value = 1, ci = 2"),
            ["rows[1] 'x': published.ci: unknown key", "Did you mean 'ci95'?"],
        ),
        (HEAD + "[runs.a]\n" + row("x", "a", "value = 'much'"), ["published.value", "'much'"]),
        (
            HEAD + "[runs.good]\n" + row("x", "goood", "value = 1"),
            ["row 'x': no run 'goood'", "Did you mean 'good'?"],
        ),
        (HEAD + "[runs.a]\n" + 2 * row("x", "a", "value = 1"), ["two rows have the id 'x'"]),
        (HEAD + "[runs.a]\n[runs.b]\n" + row("x", "a", "value = 1"), ["no row takes", "b"]),
        (
            HEAD + "[runs.a]\n" + row("x", "a", "value = 1", 'versus = "a"'),
            ["rows[1] 'x'", "versus and combine go together"],
        ),
        (
            HEAD + '[runs.a]\n[[rows]]\nid = "x"\nlabel = "X"\nrun = "a"\n',
            ["published is needed, or not_comparable"],
        ),
        (
            HEAD.replace("its page 3", "") + "[runs.a]\n" + row("x", "a", "value = 1"),
            ["source and read_in are needed"],
        ),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, content, words):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(TableError) as error:
        load_table(str(path))
    for word in ("mine.toml", *words):
        assert word in str(error.value)
    assert "\n" not in str(error.value).split("TOML")[0]


def test_unknown_tables_and_rows_name_the_nearest():
    with pytest.raises(TableError, match="Did you mean 'omniglot'"):
        load_table("omniglott")
    with pytest.raises(TableError, match="Did you mean 'meta-sgd'"):
        load_table("omniglot").chosen(["maml", "metasgd"])


# --- verdicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "published", "direction", "expected"),
    [
        ((98.0, 0.5), {"value": 98.7, "ci95": 0.4}, "higher", "within"),
        ((97.0, 0.5), {"value": 98.7, "ci95": 0.4}, "higher", "below (worse)"),
        ((99.9, 0.1), {"value": 98.7, "ci95": 0.4}, "higher", "above (better)"),
        ((0.45, 0.03), {"value": 0.49, "ci95": 0.05}, "lower", "within"),
        ((0.30, 0.03), {"value": 0.49, "ci95": 0.05}, "lower", "below (better)"),
        ((0.90, 0.03), {"value": 0.49, "ci95": 0.05}, "lower", "above (worse)"),
        ((0.90, 0.03), {"value": 0.49, "ci95": 0.05}, "neither", "above"),
        ((97.9, 0.5), {"value": 98.7}, "higher", "below (worse)"),
        ((98.3, 0.5), {"value": 98.7}, "higher", "within"),
        ((1.40, None), {"value": 1.33}, "higher", "above (better)"),
        ((9.0, 2.0), {"value": 4.0, "relation": "at_least"}, "higher", "within"),
        ((3.0, 0.5), {"value": 4.0, "relation": "at_least"}, "higher", "below (worse)"),
        (
            (99.9, 0.1),
            {"value": 99.97, "ci95": 0.06, "ensemble": 3},
            "higher",
            "not comparable: ensemble of 3",
        ),
        (
            (99.4, 0.1),
            {"value": 99.47, "ensemble": 5, "members": "checkpoints"},
            "higher",
            "not comparable: ensemble of 5 checkpoints",
        ),
        (
            (46.0, 0.1),
            {"value": 46.7, "checked": False},
            "higher",
            "not comparable: the published figure was not read in its source",
        ),
    ],
)
def test_verdicts(ours, published, direction, expected):
    assert judge(Ours(*ours), Published(**published), direction).text == expected


def test_a_small_budget_is_named_with_a_deviation_only():
    published = Published(value=98.7, ci95=0.4)
    low = judge(Ours(90.0, 0.5), published, "higher", share=0.0017)
    assert low.text == "below (worse) at 0.17 % of the published budget"
    assert judge(Ours(90.0, 0.5), published, "higher", share=0.5).text == "below (worse)"
    assert judge(Ours(98.7, 0.5), published, "higher", share=0.0017).text == "within"


def test_missing_and_not_comparable_come_first():
    published = Published(value=98.7, ensemble=3)
    assert judge(None, published, "higher", missing="it failed").text == "missing: it failed"
    why = judge(Ours(98.7, 1.0), published, "higher", not_comparable="a subset")
    assert why.text == "not comparable: a subset"


def test_an_error_that_is_not_finite_is_worse_than_any():
    ours = Ours(0.4, 0.1, episodes=600, failed=3)
    verdict = judge(ours, Published(value=0.49, ci95=0.05), "lower")
    assert verdict.text == "above (worse) 3 of 600 episodes have no finite result"
    # A failed episode of classes has accuracy 0, which is in the mean.
    accuracy = Ours(98.7, 0.1, episodes=600, failed=3, left_out=False)
    assert judge(accuracy, Published(value=98.7), "higher").text == "within"
    # Of any other metric the survivors say nothing, whichever way is better.
    verdict = judge(replace(accuracy, left_out=True), Published(value=98.7), "higher")
    assert verdict.text == "below (worse) 3 of 600 episodes have no finite result"


def test_what_weakens_a_verdict_is_noted():
    published = Published(value=0.5)
    wide = Ours(1.0, 0.6)
    said = " ".join(notes(wide, published, judge(wide, published, "lower")))
    assert "Published without an interval" in said
    assert "wide beside the published figure" in said
    assert notes(wide, published, Verdict("missing", why="x")) == []


# --- combining figures ------------------------------------------------------------------------


def test_the_interval_over_seeds_and_episodes():
    values = [Ours(0.90, 0.01, episodes=600), Ours(0.94, 0.03, episodes=600, failed=2)]
    mean = over_seeds(values)
    assert mean.value == pytest.approx(0.92)
    # t(1) = 12.706, deviation 0.0283, root of 2; and the mean of the two intervals.
    over = 12.7062047361747 * math.sqrt(2 * 0.02**2) / math.sqrt(2)
    assert mean.ci95 == pytest.approx(math.hypot(over, 0.02))
    assert (mean.seeds, mean.failed) == (2, 2)
    assert over_seeds(values[:1]) == values[0]
    # Times have no interval of their own.
    assert over_seeds([Ours(1.0, None)] * 3).ci95 == 0
    assert over_seeds([Ours(1.0, 0.1), Ours(None, None)]).value is None


def test_ratios_and_differences():
    ratio = Row(
        id="r", label="R", run="a", metric="mse", versus="b", combine="ratio", better="higher",
        not_comparable="-",
    )  # fmt: skip
    a, b = Ours(1.5, 0.15, episodes=600), Ours(0.125, 0.00625, episodes=600)
    out = combine(ratio, a, b)
    assert out.value == pytest.approx(12.0)
    assert out.ci95 == pytest.approx(12 * math.hypot(0.1, 0.05))
    difference = ratio.model_copy(update={"combine": "difference", "metric": "accuracy"})
    out = combine(difference, a, b)
    assert out.value == pytest.approx(1.375)
    assert out.ci95 == pytest.approx(math.hypot(0.15, 0.00625))
    assert difference.unit == "points"
    assert combine(ratio, a, Ours(0.0, 0.0)).value is None


def test_a_metric_that_is_not_built_in_says_which_way_is_better():
    plain: dict[str, Any] = {"id": "r", "label": "R", "run": "a", "not_comparable": "-"}
    with pytest.raises(ValueError, match="'hits' is not built in; say whether better"):
        Row(**plain, metric="hits")
    assert Row(**plain, metric="hits", better="lower").unit == ""
    assert Row(**plain, metric="hits", better="higher", percent=True).scale == 100
    assert Row(**plain, metric="nll").direction == "lower"
    with pytest.raises(ValueError, match="percent: it is known of 'mse'"):
        Row(**plain, metric="mse", percent=True)


def test_what_failed_and_counts_is_part_of_the_mean():
    published = Published(value=0.5, ci95=0.1)
    counted = Ours(0.5, 0.1, episodes=10, failed=2, left_out=False)
    assert judge(counted, published, "lower").text == "within"
    assert judge(Ours(0.5, 0.1, episodes=10, failed=2), published, "lower").better is False
