"""The class store: what the dataset gave and nothing else, the same bytes every time."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_dataset import FILES, Toy, snapshot

from data_pipeline import datasets
from data_pipeline.datasets import PARTS, DatasetSpec, RawImage
from data_pipeline.errors import DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.store.build import build_store, store_root
from data_pipeline.store.class_store import read_manifest


def test_store_holds_what_the_dataset_gave(toy, tmp_path):
    progress = []
    store = build_store("toy", tmp_path, progress=lambda n, name: progress.append((n, name)))
    assert store.root == store_root(tmp_path, "toy") == tmp_path / "toy-one" / "store"
    assert (store.dataset, store.split, store.shape) == ("toy", "one", (4, 5, 1))
    assert store.options == {"shade": 7, "loud": False, "kind": "plain"}
    assert store.description == {"from": "nowhere"}
    assert progress[:3] == [(0, "train-0"), (3, "train-1"), (7, "train-2")]
    for part, held in store.parts.items():
        assert held.class_names == (f"{part}-0", f"{part}-1", f"{part}-2")
        assert held.offsets.tolist() == [0, 3, 7, 12]
        assert held.images.shape == (12, 4, 5, 1)
        for c in range(3):
            rows = held.images[held.offsets[c] : held.offsets[c + 1]]
            assert rows[:, 0, 0, 0].tolist() == [10 * c + i + 7 for i in range(3 + c)]
        with pytest.raises(ValueError, match="read-only"):
            held.images[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            held.offsets[0] = 1
    assert sorted(snapshot(store.root)) == sorted(FILES)


def test_manifest_has_a_row_per_image(toy, tmp_path):
    store = build_store("toy", tmp_path)
    rows = read_manifest(store).to_pylist()
    assert len(rows) == 36
    assert [r["row"] for r in rows] == [*range(12)] * 3
    for row in rows:
        held = store.parts[row["part"]]
        assert held.class_names[row["class_index"]] == row["class_name"]
        pixels = held.images[row["row"]].tobytes()
        assert local.sha256_bytes(pixels) == row["sha256"].hex()
    assert rows[4]["image"] == "1.png"


def test_same_bytes_every_time_and_in_every_place(toy, tmp_path):
    first = build_store("toy", tmp_path / "a")
    second = build_store("toy", tmp_path / "elsewhere", name="other")
    assert first.digest == second.digest
    assert snapshot(first.root) == snapshot(second.root)


def test_digest_follows_everything_that_an_episode_can_see(toy, tmp_path):
    digests = [build_store("toy", tmp_path / "1").digest]
    digests.append(build_store("toy", tmp_path / "2", split="two").digest)
    digests.append(build_store("toy", tmp_path / "3", options={"shade": 8}).digest)
    toy.per_class = 4
    digests.append(build_store("toy", tmp_path / "4").digest)
    toy.per_class = 3
    toy.SPEC = DatasetSpec(**{**vars(toy.SPEC), "version": 2})
    digests.append(build_store("toy", tmp_path / "5").digest)
    toy.SPEC = DatasetSpec(**{**vars(toy.SPEC), "version": 1, "licence": "another"})
    toy.description = {"from": "elsewhere"}
    assert build_store("toy", tmp_path / "6").digest == digests[0]
    assert len(set(digests)) == 5


def test_same_pixels_in_other_classes_are_another_store(toy, tmp_path, monkeypatch):
    def images(sizes):
        for part in PARTS:
            for c, size in enumerate(sizes):
                for i in range(size):
                    yield RawImage(part, f"{c}", f"{i}", np.zeros((4, 5, 1), np.uint8))

    monkeypatch.setattr(toy, "iter_images", lambda *a, **k: images((2, 3)))
    first = build_store("toy", tmp_path / "1")
    monkeypatch.setattr(toy, "iter_images", lambda *a, **k: images((3, 2)))
    assert build_store("toy", tmp_path / "2").digest != first.digest


def test_a_good_store_is_opened_not_made_again(toy, tmp_path):
    first = build_store("toy", tmp_path)
    again = build_store("toy", tmp_path)
    assert toy.built == 1
    assert again.digest == first.digest
    build_store("toy", tmp_path, replace=True)
    assert toy.built == 2


@pytest.mark.parametrize("changed", ["options", "version", "source"])
def test_a_store_of_other_settings_is_not_taken_for_this_one(toy, tmp_path, changed):
    build_store("toy", tmp_path)
    options = {}
    if changed == "options":
        options = {"shade": 9}
    elif changed == "version":
        toy.SPEC = DatasetSpec(**{**vars(toy.SPEC), "version": 2})
    else:
        toy.description = {"from": "another folder"}
    with pytest.raises(DataError, match=rf"another store.*{changed}.*--name.*--replace"):
        build_store("toy", tmp_path, options=options)
    replaced = build_store("toy", tmp_path, options=options, replace=True)
    assert replaced.options["shade"] == options.get("shade", 7)


def test_a_folder_that_is_no_store_is_left_alone(toy, tmp_path):
    root = store_root(tmp_path, "toy")
    root.mkdir(parents=True)
    (root / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="in the way"):
        build_store("toy", tmp_path)
    assert (root / "thesis.txt").read_text() == "mine"


def test_a_source_is_demanded_where_one_is_needed(monkeypatch, tmp_path):
    module = Toy(embedded=False)
    monkeypatch.setattr(datasets, "load", lambda name: module)
    with pytest.raises(MissingData, match="--source PATH"):
        build_store("toy", tmp_path)
    made = build_store("toy", tmp_path, source=tmp_path)
    assert build_store("toy", tmp_path).digest == made.digest  # prepared: no source needed


def test_options_are_checked(toy, tmp_path):
    with pytest.raises(DataError, match=r"no option 'shad'.*Did you mean 'shade'"):
        build_store("toy", tmp_path, options={"shad": 1})
    for wrong in ({"shade": "8"}, {"shade": True}, {"loud": 1}, {"kind": 3}):
        with pytest.raises(DataError, match="is of type"):
            build_store("toy", tmp_path, options=wrong)
    with pytest.raises(DataError, match="no split 'three'"):
        build_store("toy", tmp_path, split="three")


@pytest.mark.parametrize("name", ["../up", "a/b", "/abs", ".hidden", "..", "a\\b", "nul\0"])
def test_a_name_stays_in_the_data_directory(toy, tmp_path, name):
    with pytest.raises(DataError, match="plain directory name"):
        store_root(tmp_path, "toy", name=name)


PIXELS = np.zeros((4, 5, 1), np.uint8)
BROKEN: dict[str, list[tuple[Any, ...]]] = {
    "unsorted": [("train", "b", "1", PIXELS), ("train", "a", "1", PIXELS)],
    "scattered": [("train", c, str(i), PIXELS) for i, c in enumerate("aba")],
    "nameless": [("train", "", "1", PIXELS)],
    "no Unicode": [("train", "\udcff", "1", PIXELS)],
    "twice": [("train", "a", "1", PIXELS), ("train", "a", "1", PIXELS)],
    "part order": [("val", "a", "1", PIXELS)],
    "unknown part": [("dev", "a", "1", PIXELS)],
    "part again": [(p, "a", "1", PIXELS) for p in ("train", "val", "train")],
    "part missing": [(p, "a", "1", PIXELS) for p in ("train", "val")],
    "empty": [],
    "shape": [("train", "a", "1", PIXELS[:, :, 0])],
    "dtype": [("train", "a", "1", PIXELS.astype(np.float32))],
    "no array": [("train", "a", "1", [0] * 20)],
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_dataset_that_breaks_its_contract_is_told(toy, tmp_path, monkeypatch, case):
    images = (RawImage(*fields) for fields in BROKEN[case])
    monkeypatch.setattr(toy, "iter_images", lambda *a, **k: images)
    with pytest.raises(DataError, match="'toy' breaks its contract"):
        build_store("toy", tmp_path)
    assert list((tmp_path / "toy-one").iterdir()) == []


def test_options_may_change_the_shape(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "image_shape", lambda **o: (o["shade"], 5, 1), raising=False)
    with pytest.raises(DataError, match=r"uint8 \[4, 5, 1\], uint8 \[9, 5, 1\] was declared"):
        build_store("toy", tmp_path, options={"shade": 9})
    assert build_store("toy", tmp_path, options={"shade": 4}).shape == (4, 5, 1)


def test_images_stream_to_disk(toy, tmp_path, monkeypatch):
    """No more than one image is alive while the store is written."""
    alive = [0, 0]

    class Counted(np.ndarray):
        def __del__(self):
            alive[0] -= 1

    def images(*args, **options):
        for part in PARTS:
            for i in range(200):
                pixels = np.zeros((4, 5, 1), np.uint8).view(Counted)
                alive[0] += 1
                alive[1] = max(alive)
                yield RawImage(part, "a", str(i), pixels)

    monkeypatch.setattr(toy, "iter_images", images)
    build_store("toy", tmp_path)
    assert alive[1] <= 4


def test_store_json_holds_no_times_names_or_paths(toy, tmp_path):
    store = build_store("toy", tmp_path, name="secret-name")
    text = (store.root / "store.json").read_text()
    assert str(tmp_path) not in text
    assert "secret-name" not in text
    assert set(json.loads(text)) == {"body", "sha256"}


def test_a_dataset_without_description_has_an_empty_one(monkeypatch, tmp_path):
    toy = Toy()
    module = SimpleNamespace(SPEC=toy.SPEC, iter_images=toy.iter_images)
    monkeypatch.setattr(datasets, "load", lambda name: module)
    assert build_store("toy", tmp_path).description == {}


def test_classes_that_two_parts_share_are_said(toy, tmp_path, monkeypatch, caplog):
    names = ((0, "a"), (0, "b"), (1, "c"), (2, "b"), (2, "d"))
    images = [RawImage(PARTS[part], name, "1", PIXELS) for part, name in names]
    monkeypatch.setattr(toy, "iter_images", lambda *a, **k: iter(images))
    build_store("toy", tmp_path)
    assert "1 classes of train are in test too by name, such as 'b'" in caplog.text
