"""Omniglot: its published classes and splits, and a store of known content."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from omniglot_files import ONE
from PIL import Image

from data_pipeline.datasets._holdout import hold_out_tenth
from data_pipeline.datasets._omniglot_classes import ALPHABETS, split_classes
from data_pipeline.errors import DataError, MissingData
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import read_manifest
from data_pipeline.store.preview import nearest_neighbour_accuracy, statistics

# Other pixels are another dataset: when these change, SPEC.version has to change too.
DIGESTS = {
    "vinyals": "b8a6f365f0e75c7651a81b8b571e3633abe148f5a0eb7e2f633ba8ff181224a6",
}


@pytest.fixture(scope="module")
def store(original, tmp_path_factory):
    return build_store("omniglot", tmp_path_factory.mktemp("data"), source=original)


def test_the_collection_has_its_published_size():
    assert len(ALPHABETS) == 50
    assert sum(a.characters for a in ALPHABETS) == 1623
    numbers = sorted(a.first + c for a in ALPHABETS for c in range(a.characters))
    assert numbers == list(range(1, 1624))


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ("vinyals", (1028, 172, 423)),
        ("lake", (868, 96, 659)),
        ("random1200", (1080, 120, 423)),
    ],
)
def test_splits_have_their_sizes_and_share_no_class(split, sizes):
    parts = split_classes(split)
    assert tuple(len(parts[p]) for p in ("train", "val", "test")) == sizes
    everything = [name for classes in parts.values() for name in classes]
    assert len(set(everything)) == len(everything) == 1623
    assert all(classes == sorted(classes) for classes in parts.values())


def test_frozen_draws_stay_what_they_are():
    magi = "Alphabet_of_the_Magi"
    random = split_classes("random1200")
    assert random["test"][:2] == [f"{magi}/character02", f"{magi}/character08"]
    assert random["val"][:2] == [f"{magi}/character04", "Angelic/character18"]
    lake = split_classes("lake")
    assert lake["val"][:2] == [f"{magi}/character04", f"{magi}/character08"]


def test_hold_out_takes_a_tenth_and_does_not_depend_on_order():
    names = [f"class-{i:03d}" for i in range(57)]
    train, val = hold_out_tenth(names, "key")
    assert (len(train), len(val)) == (52, 5)
    assert sorted(train + val) == names
    assert hold_out_tenth(reversed(names), "key") == (train, val)
    assert hold_out_tenth(names, "other key") != (train, val)
    assert [len(part) for part in hold_out_tenth("abcd", "key")] == [2, 2]
    with pytest.raises(DataError, match="too few"):
        hold_out_tenth("abc", "key")


def test_vinyals_is_the_published_list(data_root):
    lists = json.loads((data_root / "splits" / "omniglot_vinyals_classes.json").read_text())
    assert {p: sorted(c) for p, c in lists.items()} == split_classes("vinyals")
    for part, classes in split_classes("vinyals").items():
        text = (data_root / "splits" / "omniglot_vinyals" / f"{part}.txt").read_text()
        assert {line.rsplit("/", 1)[0] for line in text.split()} == set(classes)


@pytest.mark.slow
def test_the_store_holds_ink_on_nothing(store, drawings):
    assert store.digest == DIGESTS["vinyals"]
    assert store.description["complete"] == "yes: 32460 drawings"
    train = store.parts["train"]
    assert train.images.shape == (20560, 28, 28, 1)
    assert (np.diff(train.offsets) == 20).all()
    assert train.images.min() == 0
    assert train.images.max() == 255
    assert 0.05 < train.images[:2000].mean() / 255 < 0.15  # ink, not paper
    row = train.offsets[train.class_names.index("Greek/character03")] + 6
    ink = 255 - np.asarray(Image.open(io.BytesIO(drawings[ONE])).convert("L"))
    expected = np.asarray(Image.fromarray(ink).resize((28, 28), Image.Resampling.BILINEAR))
    assert np.array_equal(train.images[row, :, :, 0], expected)
    assert len(np.unique(expected)) > 10  # anti-aliased
    names = read_manifest(store)["image"].slice(0, 20).to_pylist()
    assert names == [f"drawer{d:02d}" for d in range(1, 21)]


@pytest.mark.slow
def test_another_source_is_not_passed_over_because_a_store_is_there(store, tmp_path):
    data = store.root.parents[1]
    for wrong in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(MissingData, match=str(wrong)):
            build_store("omniglot", data, source=wrong)
    assert build_store("omniglot", data).digest == store.digest


@pytest.mark.slow
def test_its_figures_are_the_known_ones(store):
    figures = statistics(store)
    # One pair is in the collection itself: Braille, character 1, drawers 3 and 19.
    assert sum(f["duplicates_in_class"] for f in figures.values()) == 1
    assert all(0.05 < f["brightness"] < 0.12 for f in figures.values())
    mean, _ = nearest_neighbour_accuracy(store, "test")
    assert 0.42 < mean < 0.60
