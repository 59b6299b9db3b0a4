"""The same recipe gives the same bits for any number of workers, live and from shards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import metadist
from metadist.compute.resolve import resolve
from metadist.episode_data import open_data
from metadist.episode_data.places import shards_root

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]

# A bank of 24 episodes is read two and a half times in 12 steps of 5 tasks; 5 tasks split
# unevenly over 2 and 3 workers.
SETTINGS = (
    "outer.steps=12",
    "outer.batch=5",
    "data.episodes=24",
    "eval.every=6",
    "eval.val_episodes=10",
    "eval.episodes=20",
    "eval.extra_queries=3",
)


def _train(name: str, workers: int, data: Path, runs: Path, *more: str) -> Mapping[str, object]:
    return metadist.train(
        "strokes-5w1s-maml",
        name=name,
        workers=workers,
        overrides=[*SETTINGS, *more],
        data_dir=data,
        runs_dir=runs,
        offline=True,
    )


def _evaluation(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((run / "evaluation").iterdir())}


@pytest.fixture(scope="module")
def reference(
    strokes_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Mapping[str, object]]:
    """The run in one process, without Ray."""
    runs = tmp_path_factory.mktemp("runs")
    return runs, _train("solo", 0, strokes_data, runs)


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(1, marks=(pytest.mark.slow, pytest.mark.long)),
        2,
        pytest.param(3, marks=(pytest.mark.slow, pytest.mark.long)),
    ],
)
def test_workers_do_not_matter(
    workers: int,
    reference: tuple[Path, Mapping[str, object]],
    private_ray: None,
    strokes_data: Path,
) -> None:
    runs, solo = reference
    result = _train(f"workers{workers}", workers, strokes_data, runs)
    assert result["params_sha256"] == solo["params_sha256"]
    assert result["best_step"] == solo["best_step"]
    assert _evaluation(runs / f"workers{workers}") == _evaluation(runs / "solo")


@pytest.mark.slow
def test_another_seed_gives_other_bits(tmp_path: Path, strokes_data: Path) -> None:
    digests = {
        _train(f"seed{seed}", 0, strokes_data, tmp_path, f"{key}.seed=1", "outer.steps=3")[
            "params_sha256"
        ]
        for seed, key in enumerate(("eval", "run", "data"))
    }
    # The seed of evaluation episodes does not touch training; the other two do.
    assert len(digests) == 3
    plain = _train("plain", 0, strokes_data, tmp_path, "outer.steps=3")
    assert plain["params_sha256"] in digests


# Four workers, one of which adapts two tasks of five, read from one shard.
@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 4])
def test_shards_do_not_matter(
    workers: int,
    reference: tuple[Path, Mapping[str, object]],
    request: pytest.FixtureRequest,
    strokes_data: Path,
) -> None:
    if workers:
        request.getfixturevalue("private_ray")
    from data_pipeline.shards.writer import write_shards

    runs, solo = reference
    recipe = resolve(metadist.load_recipe("strokes-5w1s-maml", SETTINGS))
    root = shards_root(strokes_data, recipe)
    if not root.exists():
        source = open_data(recipe, strokes_data).live("train", 1, 0)
        write_shards(source, 24, root)
    result = _train(f"shards{workers}", workers, strokes_data, runs, "data.storage=shards")
    assert result["params_sha256"] == solo["params_sha256"]
    assert _evaluation(runs / f"shards{workers}") == _evaluation(runs / "solo")
