"""Learners from outside on real workers, and in a search."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_parts import FOLDER, LEARNED, Learned, prepared

import metadist
from metadist.search.search_dir import SearchDir

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(600)]
FIRST, *OTHERS = LEARNED
each = pytest.mark.parametrize(
    "learned",
    [FIRST, *(pytest.param(other, marks=pytest.mark.long) for other in OTHERS)],
    ids=str,
)

SPACE = '''"""Two rates of a learner from outside."""

from metadist.space import LogUniform, Space

PART = "tune_space"
SPACE = Space(
    about="two rates",
    base="base.toml",
    search={{"outer.lr": LogUniform(1e-3, 1e-1), {key!r}: {domain}}},
    metric="val/{score}",
    mode={mode!r},
    steps=4,
    every=2,
    trials=2,
    searcher="random",
)
'''
#: An option of each learner, or of its network, and the values to search.
OPTIONS = {
    "prototypes": ("model.filters", "Choice(4, 6)"),
    "set_regression": ("algorithm.representation", "Integers(2, 8)"),
    "refined_prototypes": ("algorithm.refinements", "Integers(1, 3)"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("plugins"))


@each
def test_workers_do_not_matter(private_ray: None, root: Path, learned: Learned) -> None:
    found = []
    for workers in (0, 3):
        name = f"{learned.name}-{workers}"
        result = learned.train(root, name, workers=workers)
        files = sorted((root / "runs" / name / "evaluation").iterdir())
        found.append((result["params_sha256"], {p.name: p.read_bytes() for p in files}))
    assert found[0] == found[1]


@pytest.mark.long
@each
def test_it_is_tuned(private_ray: None, root: Path, learned: Learned, tmp_path: Path) -> None:
    key, domain = OPTIONS[learned.name]
    text = SPACE.format(
        key=key,
        domain=domain,
        score=learned.score,
        mode="max" if learned.score == "accuracy" else "min",
    ).replace("import LogUniform", f"import {domain.partition('(')[0]}, LogUniform")
    (tmp_path / "rates.py").write_text(text, encoding="utf-8")
    (tmp_path / "base.toml").write_text(learned.recipe, encoding="utf-8")
    result = metadist.tune(
        "rates",
        name=f"{learned.name}-search",
        overrides=learned.sets,
        seeds=1,
        episodes=4,
        default=False,
        concurrent=1,
        offline=True,
        data_dir=root / "data",
        runs_dir=root / "runs",
        plugins=[*learned.plugins, tmp_path / "rates.py"],
    )
    assert sum(result["trials"].values()) == 2
    assert "failed" not in result["trials"]
    search = SearchDir(Path(result["directory"]))
    assert {key, "outer.lr"} == set(search.trials()[0].point)
    assert result["best"][0]["test"]["mean"] is not None
    again = metadist.train(
        result["best_recipe"],
        name=f"{learned.name}-best",
        offline=True,
        data_dir=root / "data",
        runs_dir=root / "runs",
        plugins=learned.plugins,
    )
    assert again["params_sha256"] == result["best"][0]["params_sha256"]


def test_the_parts_are_files_that_name_nothing_of_each_other() -> None:
    files = sorted(FOLDER.glob("*.py"))
    assert {path.stem for path in files} >= {learned.name for learned in LEARNED}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not [o for o in files if o != path and f"import {o.stem}" in text], path
