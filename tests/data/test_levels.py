"""Images that use little of the range are named, and one map for all of them stretches it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from image_bytes import CHANNELS, chunk, png
from PIL import Image
from tiers import one_in

from data_pipeline.datasets import image_folder, preparation
from data_pipeline.errors import DataError, MissingData
from data_pipeline.formats.labelled_images import read_queries
from data_pipeline.store.build import build_store

CLASSES = [f"class{number}" for number in range(8)]
OPTIONS = {"size": 8, "channels": 1}


def values(seed: int, low: int, high: int, colour_type: int = 0) -> np.ndarray:
    """Samples [8, 8, channels] from ``low`` to ``high``, opaque."""
    drawn = np.random.Generator(np.random.Philox(seed)).integers(
        low, high + 1, (8, 8, CHANNELS[colour_type])
    )
    drawn[0, 0], drawn[7, 7] = low, high
    if colour_type > 3:
        drawn[:, :, -1] = 65535
    return drawn


def reached(number: int, most: int, low: int = 0) -> int:
    """The largest sample of a class."""
    return low + (most - low) * (number + 9) // 16


def fill(folder: Path, most: int, depth: int = 16, low: int = 0, colour_type: int = 0) -> Path:
    """Each class brighter than the one before, from half of ``most`` on; the last reaches it."""
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        high = reached(number, most, low)
        for image in range(2):
            drawn = values(2 * number + image, low, high, colour_type)
            (folder / name / f"{image}.png").write_bytes(png(drawn, depth, colour_type))
    return folder


def build(folder: Path, name: str = "", **options):
    merged = {**OPTIONS, **options}
    data = folder.parent / "data"
    return build_store("image_folder", data, source=folder, name=name, options=merged)


def said(caplog) -> str:
    """Warnings about the range that images use."""
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    return "\n".join(line for line in warnings if "is read" in line)


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
@pytest.mark.parametrize("bits", one_in(4, [12, 8, 10, 14]))
def test_few_bits_in_files_of_sixteen_are_said_and_stretched(tmp_path, caplog, bits, colour_type):
    most = (1 << bits) - 1
    folder = fill(tmp_path / "mine", most, colour_type=colour_type)
    options = {"channels": 3 if colour_type in (2, 6) else 1}
    build(folder, "dark", **options)
    assert f"mine: all images use 0 to {most}, where 0 to 65535 is read" in said(caplog)
    assert "--option range=set" in said(caplog)
    caplog.clear()
    store = build(folder, "set", range="set", **options)
    assert said(caplog) == ""
    assert store.options["range"] == f"0-{most}"
    part = store.parts["train"]
    number = CLASSES.index(part.class_names[0])
    high = reached(number, most)
    drawn = values(2 * number, 0, high, colour_type)[:, :, : options["channels"]]
    assert np.array_equal(part.images[0], drawn * 256 // (most + 1))


def test_the_map_is_part_of_the_identity_and_of_the_record(tmp_path):
    folder = fill(tmp_path / "mine", 4095)
    whole, measured = build(folder, "full"), build(folder, "set", range="set")
    assert measured.digest != whole.digest
    assert build(folder, "set", range="0-4095").digest == measured.digest
    assert build(folder, "set", range="set").digest == measured.digest
    with pytest.raises(DataError, match=r"another store.*'0-4095'"):
        build(folder, "set")
    with pytest.raises(MissingData, match=r"measured on the images.*--source"):
        build_store("image_folder", tmp_path / "data", name="set", options={"range": "set"})
    # Where all of the range is read the option is not there: older stores are those of today.
    assert "range" not in whole.options
    assert build(folder, "same", range="0-65535").digest == whole.digest


def test_a_users_images_are_mapped_as_those_of_the_store(tmp_path, caplog):
    folder = fill(tmp_path / "mine", 4095)
    store = build(folder, range="set")
    prepare = preparation(store.dataset, store.shape, store.options)
    part = store.parts["test"]
    read = read_queries(folder / part.class_names[0], prepare)
    assert np.array_equal(read.pixels, part.images[: part.offsets[1]])
    assert said(caplog) == ""
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked/1.png").write_bytes(png(values(1, 0, 65535), 16, 0))
    read_queries(tmp_path / "asked", prepare)
    assert "asked: the images use 0 to 65535, where 0 to 4095 is read" in said(caplog)
    caplog.clear()
    (tmp_path / "asked/1.png").write_bytes(png(values(1, 0, 3), 8, 0))
    read_queries(tmp_path / "asked", preparation("image_folder", (8, 8, 1), whole_options()))
    assert "all images use 0 to 3, where 0 to 255 is read" in said(caplog)


def whole_options() -> dict:
    return image_folder.recorded_options(None, **OPTIONS)


def test_signed_samples_with_an_offset_and_masks_are_stretched_too(tmp_path, caplog):
    signed = build(fill(tmp_path / "signed", 34000, low=32768), range="set")
    assert signed.options["range"] == "32768-34000"
    masks = fill(tmp_path / "masks", 8, depth=8)
    build(masks, "masks")
    assert "all images use 0 to 8, where 0 to 255 is read" in said(caplog)
    store = build(masks, "set", range="set")
    assert max(part.images.max() for part in store.parts.values()) == 255


def test_classes_and_files_that_are_darker_than_the_others_are_named(tmp_path, caplog):
    folder = fill(tmp_path / "mine", 255, depth=8)
    for name in ("class2/0", "class6/0", "class6/1"):
        (folder / f"{name}.png").write_bytes(png(values(1, 0, 4095), 16, 0))
    for image in range(2):
        (folder / f"class5/{image}.png").write_bytes(png(values(image, 0, 9), 8, 0))
    build(folder)
    few = [f"class{n}, files of 16 bits (0 to 4095)" for n in (2, 6)]
    named = said(caplog).split("almost uniform: ")[1].split(". All")[0]
    assert {*named.replace("), ", ")|").split("|")} == {*few, "class5 (0 to 2313)"}


def test_what_is_transparent_is_no_part_of_the_range(tmp_path, caplog):
    """Cut-outs of 12 bits on white are dark; a black silhouette on white is not."""
    folder = fill(tmp_path / "mine", 4095)
    for path in folder.rglob("*.png"):
        data = path.read_bytes()
        path.write_bytes(data[:33] + chunk(b"tRNS", b"\0\0") + data[33:])
    build(folder, "cut")
    assert "all images use" in said(caplog)
    store = build(folder, "stretched", range="set")
    assert (store.parts["train"].images[:, 0, 0] == 255).all()
    caplog.clear()
    silhouette = Image.new("LA", (8, 8))
    silhouette.paste((0, 255), (2, 2, 6, 6))
    for path in folder.rglob("*.png"):
        silhouette.save(path)
    build(folder, "black")
    assert said(caplog) == ""
    with pytest.raises(DataError, match="of one value, so range=set has none"):
        build(folder, "none", range="set")


@pytest.mark.parametrize(
    "text", ["", "all", "5", "7-7", "9-3", "0-65536", "-1-5", "0-٣", "0-4095 "]
)
def test_a_range_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(DataError, match="range must be"):
        build(fill(tmp_path / "mine", 255), range=text)
