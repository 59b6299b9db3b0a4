"""Anybody's images: a folder per class becomes a store, or the file in the way is named."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data_pipeline.datasets import image_folder
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.store.build import build_store


def picture(shade: int, kind: str = "PNG", size: tuple[int, int] = (20, 12), **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade % 256, 50, 200)).save(buffer, kind, **options)
    return buffer.getvalue()


def fill(root, class_names, images=3):
    for c, name in enumerate(class_names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            (root / name / f"{i}.png").write_bytes(picture(10 * c + i))
    return root


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "mine", [f"class {c}" for c in range(20)])


def consume(root, **options):
    return list(image_folder.iter_images(root, **options))


def classes_of(root, **options):
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for image in consume(root, **options):
        if image.class_name not in parts[image.part]:
            parts[image.part].append(image.class_name)
    return parts


# --- what becomes of a good folder ------------------------------------------------------------


def test_a_folder_becomes_a_store(folder, tmp_path):
    store = build_store("image_folder", tmp_path / "data", source=folder)
    assert store.shape == (84, 84, 3)
    assert {p: len(s.class_names) for p, s in store.parts.items()} == {
        "train": 13,
        "val": 3,
        "test": 4,
    }
    assert sum(len(s.images) for s in store.parts.values()) == 60
    assert store.description["images"] == "60 files"


def test_the_division_depends_on_names_alone(folder, tmp_path):
    parts = classes_of(folder)
    names = [name for classes in parts.values() for name in classes]
    assert sorted(names) == sorted(p.name for p in folder.iterdir())
    assert all(classes == sorted(classes) for classes in parts.values())
    other = fill(tmp_path / "other", reversed(names), images=5)
    assert classes_of(other) == parts
    assert parts["test"] == ["class 13", "class 16", "class 2", "class 8"]


def test_a_new_class_moves_few_others(folder):
    before = classes_of(folder)
    fill(folder, ["a new class"])
    after = classes_of(folder)
    moved = {n for p in before for n in before[p]} - {
        n for p in before for n in set(before[p]) & set(after[p])
    }
    assert len(moved) <= 2


def test_named_parts_decide(tmp_path):
    root = fill(tmp_path, ["train/a", "train/b", "val/c", "val/d", "test/e", "test/f"])
    assert classes_of(root) == {"train": ["a", "b"], "val": ["c", "d"], "test": ["e", "f"]}


def test_without_val_a_frozen_tenth_is_held_out(tmp_path):
    names = [f"train/{i:02d}" for i in range(40)]
    parts = classes_of(fill(tmp_path, [*names, "test/x", "test/y"], images=2))
    assert (len(parts["train"]), len(parts["val"]), parts["test"]) == (36, 4, ["x", "y"])


def test_classes_may_be_nested(tmp_path):
    names = ["birds/owl", "birds/swift", "birds", "fish/eel", "fish/cod/young", "moss", "fern"]
    parts = classes_of(fill(tmp_path, names))
    assert sorted(name for classes in parts.values() for name in classes) == sorted(names)
    images = [image.name for image in consume(tmp_path) if image.class_name == "birds"]
    assert images == ["0.png", "1.png", "2.png"]


def test_formats_mix_and_desktop_litter_is_passed_over(folder):
    target = folder / "class 3"
    for i, kind in enumerate(("JPEG", "BMP", "WEBP")):
        (target / f"9{i}.{kind.lower()}").write_bytes(picture(i, kind))
    (target / "no-suffix").write_bytes(picture(1))
    for litter in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (target / litter).write_bytes(b"litter")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("litter")
    names = [image.name for image in consume(folder) if image.class_name == "class 3"]
    assert names == ["0.png", "1.png", "2.png", "90.jpeg", "91.bmp", "92.webp", "no-suffix"]


def test_options_set_size_colour_and_fit(folder, tmp_path):
    wide = Image.new("RGB", (90, 30), (0, 0, 0))
    wide.paste((250, 250, 250), (30, 0, 60, 30))
    wide.save(folder / "class 0" / "0.png")
    for fit, dark in (("crop", 0), ("stretch", 1)):
        image = next(i for i in consume(folder, resize=fit) if i.class_name == "class 0")
        assert (image.pixels < 50).any() == dark
    store = build_store(
        "image_folder", tmp_path, source=folder, options={"size": 28, "channels": 1}
    )
    assert store.shape == (28, 28, 1)


def test_photographs_stand_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    photo = Image.new("RGB", (40, 40), (0, 0, 0))
    photo.paste((255, 255, 255), (0, 0, 40, 20))
    photo.save(folder / "class 0" / "0.png", exif=exif)
    pixels = next(i for i in consume(folder) if i.class_name == "class 0").pixels
    assert pixels[:30].max() < 50
    assert pixels[-30:].min() > 200


@pytest.mark.parametrize(
    "options",
    [
        {"size": 7},
        {"size": 5000},
        {"channels": 2},
        {"channels": 4},
        {"resize": "squash"},
        {"min_images": 0},
        {"colour": 3},
    ],
)
def test_impossible_options_are_named(folder, options):
    with pytest.raises(DataError, match=next(iter(options))):
        consume(folder, **options)


def test_a_changed_folder_is_not_taken_for_the_old_one(folder, tmp_path):
    first = build_store("image_folder", tmp_path / "data", source=folder)
    assert build_store("image_folder", tmp_path / "data", source=folder).digest == first.digest
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert build_store("image_folder", tmp_path / "data", source=moved).digest == first.digest
    (folder / "class 0" / "new.png").write_bytes(picture(1))
    with pytest.raises(DataError, match=r"another store.*--name"):
        build_store("image_folder", tmp_path / "data", source=folder)


# --- what is refused --------------------------------------------------------------------------


def test_a_missing_folder_says_what_is_expected(tmp_path):
    with pytest.raises(MissingData, match="FOLDER/<class>/<image>"):
        consume(None)
    with pytest.raises(MissingData, match=r"nowhere: no such folder.*FOLDER/<class>"):
        consume(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found 0 classes"):
        consume(tmp_path)


def test_too_few_classes_are_counted(tmp_path):
    with pytest.raises(DataError, match=r"found 5 classes.*at least 6"):
        consume(fill(tmp_path / "a", "abcde"))
    assert classes_of(fill(tmp_path / "b", "abcdef"))
    few = fill(tmp_path / "c", ["train/a", "train/b", "val/c", "test/d", "test/e"])
    with pytest.raises(DataError, match=r"1 classes for 'val'.*found 5 classes"):
        consume(few)


def test_classes_with_too_few_images_are_listed(folder):
    for name in ("class 4", "class 7"):
        for i in (1, 2):
            (folder / name / f"{i}.png").unlink()
    with pytest.raises(DataError, match="2 classes have fewer than 2 images: class 4, class 7"):
        consume(folder)
    assert len(consume(folder, min_images=1)) == 56


def test_a_class_in_two_parts_is_named(tmp_path):
    root = fill(tmp_path, ["train/cat", "train/dog", "test/cat", "test/dog", "test/elk"])
    with pytest.raises(DataError, match=r"class 'cat' is in train and in test .and 1 more"):
        consume(root)


@pytest.mark.parametrize("names", [["train/a", "val/b"], ["train/a", "test/b", "other/c"]])
def test_half_named_parts_are_refused(tmp_path, names):
    with pytest.raises(DataError, match="Either name all parts"):
        consume(fill(tmp_path, names))


def test_an_image_outside_any_class_is_named(folder, tmp_path):
    (folder / "stray.png").write_bytes(picture(1))
    with pytest.raises(DataError, match=r"stray\.png: lies in no class"):
        consume(folder)
    root = fill(tmp_path / "named", ["train/a", "train/b", "test/c", "test/d"])
    (root / "test" / "stray.png").write_bytes(picture(1))
    with pytest.raises(DataError, match=r"test/stray\.png: lies in no class"):
        consume(root)


def bomb() -> bytes:
    def chunk(name, data):
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(6251 * 500), 9)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", DamagedData),
        (b"notes about the photographs", DamagedData),
        (b"MZ\x90\x00" + bytes(300), DamagedData),
        (b"\x80\x04\x95\x1e\x00\x00\x00cposix\nsystem\n", DamagedData),
        (picture(3)[:-30], DamagedData),
        (picture(3, "JPEG")[:-30], DamagedData),
        (picture(3, "GIF"), DamagedData),
        (bomb(), UnsafeData),
    ],
    ids=["empty", "text", "exe", "pickle", "cut png", "cut jpeg", "gif", "bomb"],
)
def test_a_file_that_is_no_image_is_named(folder, tmp_path, content, error):
    (folder / "class 2" / "1.png").write_bytes(content)
    with pytest.raises(error, match=r"mine/class 2/1\.png"):
        build_store("image_folder", tmp_path / "data", source=folder)
    assert list((tmp_path / "data" / "image_folder-by_class").iterdir()) == []


@pytest.mark.faults
def test_links_that_lead_out_are_refused(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(1))
    link = folder / "class 1" / "link.png"
    link.symlink_to(tmp_path / "secret.png")
    with pytest.raises(UnsafeData, match=r"class 1/link\.png"):
        consume(folder)
    link.unlink()
    link.symlink_to(folder / "class 1" / "0.png")  # stays inside: an image like others
    assert len(consume(folder)) == 61
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UnsafeData, match="linked: a link to a folder"):
        consume(folder)


@pytest.mark.faults
def test_a_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "class 1" / "pipe.png")
    with pytest.raises(UnsafeData, match=r"pipe\.png: neither a file nor a folder"):
        consume(folder)


@pytest.mark.faults
def test_a_name_that_is_no_unicode_is_refused(folder):
    name = os.fsencode(folder / "class 1") + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write(picture(1))
    with pytest.raises(DataError, match="not valid Unicode"):
        consume(folder)


def test_pixels_are_those_of_the_images(folder):
    for image in consume(folder):
        c = int(image.class_name.split()[1])
        i = int(image.name[0])
        assert np.array_equal(np.unique(image.pixels[:, :, 0]), [(10 * c + i) % 256])
