"""Contact sheets and figures of a class store."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data_pipeline import datasets
from data_pipeline.datasets import PARTS, DatasetSpec, RawImage
from data_pipeline.errors import DataError
from data_pipeline.store.build import build_store
from data_pipeline.store.preview import contact_sheet, nearest_neighbour_accuracy, statistics


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A store of chosen images: part -> class -> list of uint8 [H, W, C]."""

    def make(parts, shape=(8, 8, 1)):
        def images(source=None, split="only"):
            for part in PARTS:
                for name in sorted(parts[part]):
                    for i, pixels in enumerate(parts[part][name]):
                        yield RawImage(part, name, str(i), np.broadcast_to(pixels, shape))

        spec = DatasetSpec("toy", "", "none", shape, ("only",), version=1, embedded=True)
        module = SimpleNamespace(SPEC=spec, iter_images=images)
        monkeypatch.setattr(datasets, "load", lambda name: module)
        return build_store("toy", tmp_path / "data")

    return make


def shade(value: int) -> np.ndarray:
    return np.full((1, 1, 1), value, np.uint8)


PLAIN = {"a": [shade(1), shade(2)], "b": [shade(3)]}


def test_figures_of_each_part(make):
    store = make(
        {
            "train": {"a": [shade(0), shade(255)], "b": [shade(51)], "c": [shade(102)] * 2},
            "val": PLAIN,
            "test": PLAIN,
        }
    )
    figures = statistics(store)
    assert figures["train"] == {
        "classes": 3,
        "images": 5,
        "images_per_class_min": 1,
        "images_per_class_median": 2.0,
        "images_per_class_max": 2,
        "pixel_min": 0,
        "pixel_max": 255,
        "brightness": pytest.approx((0 + 255 + 51 + 102 + 102) / 5 / 255),
        "duplicates_in_class": 1,
        "duplicates_across_classes": 0,
        "duplicates_across_parts": 0,
    }
    assert figures["val"]["duplicates_across_parts"] == 3


def test_duplicates_across_classes_are_counted(make):
    same = {"a": [shade(1), shade(2)], "b": [shade(2), shade(3)], "c": [shade(2)] * 2}
    figures = statistics(make({"train": same, "val": {"x": [shade(9)]}, "test": {"y": [shade(8)]}}))
    assert figures["train"]["duplicates_across_classes"] == 4
    assert figures["train"]["duplicates_in_class"] == 1
    assert figures["train"]["duplicates_across_parts"] == 0


def test_a_sheet_shows_names_and_images(make, tmp_path):
    parts = {f"class {c:02d}": [shade(200)] * 4 for c in range(30)}
    store = make({"train": parts, "val": PLAIN, "test": PLAIN})
    path = tmp_path / "sheet.png"
    contact_sheet(store, "train", path)
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("L"))
    assert (pixels == 200).sum() >= 20 * 4 * 64 * 64  # enlarged to 64 x 64 each
    assert (pixels[:, :60] < 60).sum() > 100  # labels
    before = path.read_bytes()
    contact_sheet(store, "train", path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "sheet.png"]


@pytest.mark.parametrize("shape", [(8, 8, 1), (84, 84, 3), (10, 30, 3)])
def test_sheets_of_every_size(make, tmp_path, shape):
    parts = {"x" * 80: [shade(1), shade(2)], "\N{CJK UNIFIED IDEOGRAPH-5B57}": [shade(3)]}
    store = make({"train": parts, "val": PLAIN, "test": PLAIN}, shape)
    path = tmp_path / "sheet.png"
    contact_sheet(store, "train", path)
    with Image.open(path) as sheet:
        assert sheet.size[0] < 2000


def test_nearest_neighbour_sees_what_is_there_to_see(make):
    random = np.random.Generator(np.random.Philox(1))
    easy, hard = {}, {}
    for c in range(10):
        one_pixel = np.zeros((8, 8, 1), np.uint8)
        one_pixel[c // 8, c % 8] = 255
        easy[f"{c}"] = [one_pixel] * 6
        hard[f"{c}"] = list(random.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8))
    store = make({"train": easy, "val": hard, "test": PLAIN})
    assert nearest_neighbour_accuracy(store, "train", episodes=20) == (1.0, 0.0)
    mean, half = nearest_neighbour_accuracy(store, "val")
    assert abs(mean - 0.2) < 4 * half
    assert nearest_neighbour_accuracy(store, "val") == (mean, half)
    with pytest.raises(DataError, match="1 classes of two images or more"):
        nearest_neighbour_accuracy(store, "test")
