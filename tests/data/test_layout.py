"""Folders that name parts, in whatever spelling; no class stands in two parts without a word."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import pytest
from small_images import fill

from data_pipeline.datasets import Option, image_folder
from data_pipeline.datasets._layout import part_named, places
from data_pipeline.errors import DataError
from data_pipeline.store.build import build_store


def by_part(folders, class_names="distinct"):
    """Classes by part, of folders that hold an image each."""
    found: dict[str | None, list[str]] = {}
    for place in places(Path("root"), {f: [f"{f}/0.png"] for f in folders}, class_names).values():
        found.setdefault(place.part, []).append(place.class_name)
    return {part: sorted(names) for part, names in found.items()}


SPELLINGS = {
    "train": "train TRAIN Training training_set train-images Train.Images trainset tr trn "
    "TrainData metatrain meta-train train2017 x_train asl_alphabet_train 1_train training.v2",
    "val": "val Valid VALIDATION validation_data dev DevSet eval evaluation val-images meta_val",
    "test": "test Tests Testing tst te imagesTs TEST_SET testset TestImages x_test seg_test",
}


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, text in SPELLINGS.items() for name in text.split()]
)
def test_names_of_parts_are_recognised(part, name):
    assert part_named(name) == part
    assert part_named(f" {name} images ") == part


@pytest.mark.parametrize(
    "name", ["trainer", "contest", "attested", "valve", "evaluator", "latest", "train_test", "tree"]
)
def test_other_names_are_not(name):
    assert part_named(name) is None


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train/{}", "val/{}", "test/{}"),
        ("Training/{}", "Validation/{}", "Testing/{}"),
        ("train_set/{}", "dev set/{}", "test-set/{}"),
        ("Train Images/{}", "ValidImages/{}", "Test Images/{}"),
        ("data/train/{}", "data/valid/{}", "data/test/{}"),
        ("a/b/TRAIN/{}", "a/b/EVAL/{}", "a/b/TEST/{}"),
        ("seg_train/seg_train/{}", "seg_val/seg_val/{}", "seg_test/seg_test/{}"),
        ("{}/train", "{}/val", "{}/test"),
        ("{}/Training Images", "{}/dev", "{}/tst"),
    ],
)
def test_parts_may_be_named_in_any_spelling_and_at_any_depth(train, val, test):
    wanted = {"train": ["a", "b"], "val": ["c", "d"], "test": ["e", "f"]}
    written = {"train": train, "val": val, "test": test}
    folders = [written[p].format(name) for p, names in wanted.items() for name in names]
    assert by_part(folders) == wanted
    # The same class in two of them is a leak, wherever the part's name stands.
    with pytest.raises(DataError, match=r"class 'a' is in train and in test\."):
        by_part([*folders, test.format("a")])


@pytest.mark.parametrize(
    "folders",
    [
        ["car", "bus", "train"],
        ["languages/tr", "languages/te", "languages/de", "languages/fr"],
        ["bullet train", "test tube", "cat", "dog"],
        ["birds/owl", "birds/swift", "birds", "fish/eel"],
        ["owl/images", "eel/images", "images"],
        ["tr", "te", "de", "fr"],
        ["dev", "ops", "eval"],
        ["Training/a", "Training/b", "Training/c"],
        ["Training", "Running", "Swimming"],
        ["bullet train/a", "bullet train/b", "steam train/a1", "bus/c"],
    ],
)
def test_classes_that_are_called_like_parts_are_classes(folders):
    if "train" not in folders:
        assert by_part(folders) == {None: sorted(folders)}
        return
    with pytest.raises(DataError, match="Either name all parts"):
        by_part(folders)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["Training/a", "Testing/b", "other/c"], "Either name all parts"),
        (["data/train/a", "data/test/b", "c"], "Either name all parts"),
        (["Train/a", "Validation/b"], "Either name all parts"),
        (["Training/a", "Training/b", "Holdout/c"], "holds Holdout, Training. Either name all"),
        (["data/learn/a", "data/Test Images/b"], "holds Test Images, learn. Either name all"),
        (["train/a", "Training/b", "test/c"], "'Training' and 'train' all speak of 'train'"),
        (["data/train", "data/train/a", "data/test/b"], r"data/train/0.png: lies in no class"),
        (["Training", "Training/a", "Testing/b"], r"Training/0.png: lies in no class"),
    ],
)
def test_half_named_parts_are_refused(folders, said):
    with pytest.raises(DataError, match=said):
        by_part(folders)


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("twins", "paths_help"),
    [
        ((NFC, NFD), False),
        (("Owl", "owl"), True),
        (("owl", "owl "), True),
        ((" owl", "owl"), True),
        (("barn owl", "barn\u00a0owl"), True),
        (("straße", "STRASSE"), True),
        (("owl", "owl\u200b"), True),
        (("owl", "ｏｗｌ"), True),
        (("day/owl", "night/owl"), True),
        (("day/owl", "owl"), True),
    ],
)
@pytest.mark.parametrize("divided", [False, True])
def test_classes_that_may_be_one_are_refused_by_name(twins, paths_help, divided):
    one, other = twins
    folders = [f"train/{one}", f"test/{other}"] if divided else [one, other]
    more = ["train/x", "test/y"] if divided else ["x", "y"]
    with pytest.raises(DataError, match="one folder") as caught:
        by_part([*folders, *more])
    said = str(caught.value)
    assert all(ascii(folder) in said or repr(folder) in said for folder in folders)
    assert ("class_names=paths" in said) == paths_help
    if paths_help:
        found = by_part([*folders, *more], "paths")
        assert sorted(n for names in found.values() for n in names) == sorted([*twins, "x", "y"])


def test_a_name_under_several_parents_takes_them_in_on_request(tmp_path):
    root = fill(
        tmp_path / "mine", [f"{a}/character{c}" for a in ("Greek", "Latin") for c in "1234"]
    )
    with pytest.raises(DataError, match=r"class 'character1' stands in 'Greek/character1' and in"):
        build_store("image_folder", tmp_path, source=root)
    options: dict[str, Option] = {"class_names": "paths", "size": 9}
    store = build_store("image_folder", tmp_path, source=root, options=options)
    assert store.description["class_names"] == "paths"
    # Names of classes and pixels are all that counts: the digest is that of before the option.
    assert store.digest == "8bb80d66d98b09b97fa2bfe3c2090ef18dcea6344c7d542721ff28b2f82cbe76"
    with pytest.raises(DataError, match="class_names"):
        list(image_folder.iter_images(root, class_names="any"))


def test_a_leak_leaves_no_store_and_the_digest_of_named_parts_is_that_of_plain_ones(tmp_path):
    wanted = {"train": "abcdef", "val": "gh", "test": "ij"}
    plain = fill(tmp_path / "plain", [f"{p}/{n}" for p, names in wanted.items() for n in names])
    other = tmp_path / "other/Images"
    other.parent.mkdir()
    plain.rename(other)
    for name, spelling in (("train", "Training"), ("val", "DEV"), ("test", "test_set")):
        (other / name).rename(other / spelling)
    stores = build_store("image_folder", tmp_path, source=other.parent, options={"size": 9})
    assert stores.digest == "d5e2865e938b9fe099d338f5c5d62b9ec176cc3c78450b6433389c335ac6b5e4"
    fill(other / "test_set", ["a"])
    with pytest.raises(DataError, match="class 'a' is in train and in test"):
        build_store("image_folder", tmp_path, source=other.parent, name="leak")
    assert not (tmp_path / "leak").exists() or not list((tmp_path / "leak").iterdir())


def test_how_many_classes_are_needed_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    few = fill(tmp_path / "few", ["train/a", "train/b", "train/c", "test/d", "test/e"])
    with pytest.raises(DataError, match=r"3 training classes and no val folder: at least 4.*'val'"):
        list(image_folder.iter_images(few))
    names = [*(f"train/{c:02d}" for c in range(20)), *(f"test/t{c}" for c in range(5))]
    list(image_folder.iter_images(fill(tmp_path / "some", names)))
    assert "at most 2 ways; for 5 put 5 classes into a folder 'val', or 50 into" in caplog.text
    caplog.clear()
    list(image_folder.iter_images(fill(tmp_path / "flat", map(str, range(20)))))
    assert "3 classes for 'val'" in caplog.text
    assert "32 classes or more" in caplog.text
    caplog.clear()
    list(image_folder.iter_images(fill(tmp_path / "enough", [f"c{c}" for c in range(32)])))
    assert "ways" not in caplog.text


def test_images_that_two_parts_share_are_said(tmp_path, caplog):
    names = [f"{part}/{part}{c}" for part in ("train", "val", "test") for c in range(2)]
    root = fill(tmp_path / "mine", names)
    build_store("image_folder", tmp_path, source=root, options={"size": 9}, name="clean")
    assert "pixel for pixel" not in caplog.text
    copied = (root / "train/train0/1.png").read_bytes()
    (root / "test/test1/9.png").write_bytes(copied)
    with caplog.at_level(logging.WARNING):
        build_store("image_folder", tmp_path, source=root, options={"size": 9})
    said = (
        "1 images of train are in test too, pixel for pixel, such as train0/1.png and test1/9.png"
    )
    assert said in caplog.text
