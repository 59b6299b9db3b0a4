"""A folder of images, and the store and the shards that the command makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from data_command import SIZE, done, draw_images

RECIPE = """
[data]
dataset = "image_folder"
store = "mine"
ways = 2
queries = 2

[model]
name = "conv4"

[algorithm]
name = "maml"

[outer]
steps = 40
batch = 4
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("raw") / "images")


@pytest.fixture
def prepare(images: Path) -> Callable[..., str]:
    """Prepares the images as the store ``mine``."""

    def command(*arguments: str) -> str:
        options = ["--name", "mine", "--option", f"size={SIZE}", *arguments]
        return done("prepare", "image_folder", "--source", str(images), *options)

    return command


@pytest.fixture
def recipe() -> str:
    Path("mine.toml").write_text(RECIPE)
    return "mine.toml"


@pytest.fixture
def store(prepare: Callable[..., str]) -> Path:
    prepare()
    return Path("data/mine/store")


@pytest.fixture
def sharded(store: Path, recipe: str) -> Path:
    done("shard", recipe, "--writers", "1")
    return Path("data/mine/shards/2w1s2q-seed0")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes strokes with few alphabets: the same path as all of it, in less time."""
    from data_pipeline.datasets import strokes

    monkeypatch.setattr(strokes, "ALPHABETS", (("train", 1), ("val", 1), ("test", 1)))
    monkeypatch.setattr(strokes, "_characters", strokes._characters.__wrapped__)
