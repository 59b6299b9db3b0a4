"""A model in a folder: damage is named, and what was written before is read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_runs import FUNCTIONS, IMAGES, image_data
from fresh_learners import CPU, fresh_model

from data_pipeline.storage.local import read_sealed_json, sha256_bytes, write_sealed_json
from metadist.errors import AdaptError, DamagedCheckpoint, RunError
from metadist.evaluation.inference.saved_model import SavedModel
from metadist.evaluation.inference.trained_model import TrainedModel


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image data."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    return root


@lru_cache
def fresh(place: Path) -> tuple[TrainedModel, Any]:
    return fresh_model(IMAGES, root=place / "data")


def opened(folder: Path) -> TrainedModel:
    return TrainedModel.of_saved(SavedModel.read(folder), CPU)


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.toml", "config.json"])
def test_a_damaged_file_is_named(place, tmp_path, name):
    fresh(place)[0].save(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=name):
        opened(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DamagedCheckpoint, match=name):
        opened(tmp_path)


def test_only_its_own_files_are_read(place, tmp_path, monkeypatch):
    fresh(place)[0].save(tmp_path)
    body = read_sealed_json(tmp_path / "config.json")
    secret = tmp_path.parent / "secret"
    body["sha256"] = {**body["sha256"], str(secret): sha256_bytes(b""), "../secret": "0"}
    write_sealed_json(tmp_path / "config.json", body)
    read_here: list[str] = []
    read = Path.read_bytes

    def watched(path: Path) -> bytes:
        read_here.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    opened(tmp_path)
    assert sorted(set(read_here)) == ["config.json", "recipe.toml", "weights.safetensors"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", ["weights.safetensors"]),
        ("sha256", {"weights.safetensors": "0"}),
        ("sha256", None),
        ("shape", []),
        ("shape", {"inputs": 1}),
        ("preparation", "x"),
        ("preparation", {"shape": [8, 8, 1], "low": 9, "high": 3}),
        ("facts", 1),
    ],
)
def test_a_configuration_that_is_none_is_named(place, tmp_path, key, value):
    fresh(place)[0].save(tmp_path)
    body = read_sealed_json(tmp_path / "config.json")
    write_sealed_json(tmp_path / "config.json", {**body, key: value})
    with pytest.raises(DamagedCheckpoint, match=r"config\.json"):
        opened(tmp_path)


def test_a_folder_of_the_first_format_is_read(place, tmp_path):
    model, source = fresh(place)
    model.save(tmp_path)
    config = tmp_path / "config.json"
    body = read_sealed_json(config)
    assert body["format"] == 2
    shape = body["shape"]
    assert shape.pop("ways") == 3
    del body["plugins"]
    write_sealed_json(config, {**body, "format": 1, "shape": {"kind": "classification", **shape}})
    loaded = opened(tmp_path)
    assert (loaded.tasks, loaded.facts) == (model.tasks, model.facts)
    episode = source.episodes([0])
    given = episode.support_x[0], episode.support_y[0]
    before = model.adapt(*given).predict(episode.query_x[0])
    np.testing.assert_array_equal(
        before.logits, loaded.adapt(*given).predict(episode.query_x[0]).logits
    )


def test_another_format_is_refused(place, tmp_path):
    fresh(place)[0].save(tmp_path)
    body = read_sealed_json(tmp_path / "config.json")
    write_sealed_json(tmp_path / "config.json", {**body, "format": 3})
    with pytest.raises(RunError, match="format 1 or 2 expected, got 3"):
        opened(tmp_path)


def test_a_learner_of_functions_is_saved_too(tmp_path):
    model, source = fresh_model(FUNCTIONS, shots=10)
    episode = source.episodes([0])
    assert model.save(tmp_path / "new" / "folder") == (tmp_path / "new" / "folder").resolve()
    loaded = opened(tmp_path / "new" / "folder")
    assert loaded.tasks == model.tasks
    given = episode.support_x[0], episode.support_y[0]
    before, after = (m.adapt(*given).predict(episode.query_x[0]) for m in (model, loaded))
    np.testing.assert_array_equal(before.mean, after.mean)


def test_nothing_is_overwritten(place, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AdaptError, match="exists already and is kept"):
        fresh(place)[0].save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
