"""A model in a folder: damage is named, and what was written before is read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_runs import FUNCTIONS, IMAGES, image_data
from fresh_learners import CPU, fresh_model
from safetensors.torch import load_file, save_file

from data_pipeline.storage.local import read_sealed_json, sha256_bytes, write_sealed_json
from metadist.errors import AdaptError, DamagedCheckpoint, RunError
from metadist.evaluation.inference.saved_model import SavedModel
from metadist.evaluation.inference.task_facts import TaskFacts
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.runs.record import UNREADABLE


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
        ("facts", {"checkpoint": "x"}),
        ("facts", {"checkpoint": {"step": "1", "params_sha256": "0"}}),
        ("facts", {"accuracy": "x"}),
        ("facts", {"run": 3}),
        ("plugins", {"algorithm": {}}),
        ("plugins", []),
    ],
)
def test_a_configuration_that_is_none_is_named(place, tmp_path, key, value):
    fresh(place)[0].save(tmp_path)
    body = read_sealed_json(tmp_path / "config.json")
    write_sealed_json(tmp_path / "config.json", {**body, key: value})
    with pytest.raises(DamagedCheckpoint, match=r"config\.json"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("shape", "ways", 2.5),
        ("shape", "ways", True),
        ("shape", "ways", 2),
        ("shape", "ways", -3),
        ("shape", "inputs", "ab"),
        ("shape", "inputs", [16, 16]),
        ("shape", "inputs", [1, 16, 0]),
        ("shape", "inputs", []),
        ("shape", "outputs", -1),
        ("shape", "outputs", "x"),
        ("shape", "classes", "x"),
        ("shape", "latent", None),
        ("preparation", "shape", "abc"),
        ("preparation", "shape", [16, 16, 2]),
        ("preparation", "shape", [1 << 20, 1 << 20, 1]),
        ("preparation", "fit", "wrap"),
        ("preparation", "resampling", 1),
        ("preparation", "invert", "false"),
        ("preparation", "upright", 0),
        ("preparation", "low", "0"),
        ("preparation", "high", 1e9),
    ],
)
def test_a_field_that_cannot_be_is_named(place, tmp_path, part, name, value):
    model = fresh(place)[0]
    model.save(tmp_path)
    body = read_sealed_json(tmp_path / "config.json")
    body[part][name] = value
    write_sealed_json(tmp_path / "config.json", body)
    with pytest.raises(DamagedCheckpoint, match=rf"config\.json: .*({part}|inputs)"):
        opened(tmp_path)
    # In run.json they go through the same.
    told = {**model.tasks.document(), part: body[part]}
    with pytest.raises(UNREADABLE):
        TaskFacts.read(**told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors, name: tensors.pop(name), "got none"),
        (lambda tensors, name: tensors.update({f"{name}2": tensors[name]}), "2: none is needed"),
        (lambda tensors, name: tensors.update({name: tensors[name][:1]}), "is needed, got"),
        (lambda tensors, name: tensors.update({name: tensors[name].half()}), "got torch.float16"),
        (lambda tensors, name: tensors.update({"else/x": tensors[name]}), "else/x: none is needed"),
    ],
)
@pytest.mark.parametrize("group", ["params", "state"])
def test_other_tensors_than_the_learners_are_named(place, tmp_path, group, change, words):
    fresh_model(IMAGES, "model.norm=running", root=place / "data")[0].save(tmp_path)
    tensors = load_file(tmp_path / "weights.safetensors")
    name = next(name for name in sorted(tensors) if name.startswith(group) and tensors[name].ndim)
    change(tensors, name)
    save_file({n: t.clone() for n, t in tensors.items()}, tmp_path / "weights.safetensors")
    body = read_sealed_json(tmp_path / "config.json")
    data = (tmp_path / "weights.safetensors").read_bytes()
    body["sha256"]["weights.safetensors"] = sha256_bytes(data)
    write_sealed_json(tmp_path / "config.json", body)
    with pytest.raises(DamagedCheckpoint, match=rf"weights\.safetensors: .*{words}"):
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
