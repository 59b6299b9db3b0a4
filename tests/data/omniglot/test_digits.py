"""The trial on digits: what is learned from is Omniglot's, what is tested on are other people's."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline.datasets import digits, omniglot
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.store.build import build_store

# Other pixels are another dataset: when this changes, SPEC.version has to change too.
DIGEST = "4cb54e23176e5f265ebca2ff59d8929dc48e2e337f395a0e97c8c15639ea2bf7"
#: Images of each digit.
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_table_is_that_of_scikit_learn():
    pixels, labels = digits.read_digits()
    assert pixels.shape == (1797, 8, 8)
    assert pixels.max() == 16
    assert np.bincount(labels).tolist() == COUNTS


def test_a_digit_is_ink_in_the_middle():
    shades = np.zeros((8, 8), np.uint8)
    shades[3:5, 3:5] = 16
    image = digits.placed(shades)
    assert image.shape == digits.SPEC.shape
    assert image.dtype == np.uint8
    assert np.array_equal(image, image[::-1, ::-1])
    assert image[13:15, 13:15].min() > 200
    assert not image[:8].any()
    full = digits.placed(np.full((8, 8), 16, np.uint8))
    assert full[4:24, 4:24].min() == 255
    assert int((full > 0).sum()) == 400


@pytest.mark.slow
@pytest.mark.long
def test_a_store_has_omniglots_characters_and_ten_digits(original, tmp_path):
    store = build_store("digits", tmp_path, source=original)
    assert store.digest == DIGEST
    plain = build_store("omniglot", tmp_path, source=original)
    for part in ("train", "val"):
        own, theirs = store.parts[part], plain.parts[part]
        assert own.class_names == theirs.class_names
        assert np.array_equal(own.images, theirs.images)
    test = store.parts["test"]
    assert test.class_names == tuple("0123456789")
    assert np.diff(test.offsets).tolist() == COUNTS
    pixels, labels = digits.read_digits()
    assert np.array_equal(test.images[0], digits.placed(pixels[labels == 0][0]))
    assert store.description["digits_sha256"] == digits.TABLE_SHA256


def place(folder: Path, patch: pytest.MonkeyPatch, text: bytes | None) -> None:
    """A scikit-learn with another table, or without."""
    table = folder / digits.TABLE
    if text is not None:
        table.parent.mkdir(parents=True)
        table.write_bytes(text)
    spec = SimpleNamespace(origin=str(folder / "__init__.py"))
    patch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_another_table_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch):
    place(tmp_path, monkeypatch, gzip.compress(b"0,1,2\n"))
    with pytest.raises(DamagedData, match="other digits"):
        digits.read_digits()
    (tmp_path / digits.TABLE).write_bytes(b"no gzip")
    with pytest.raises(DamagedData, match="not a readable table"):
        digits.read_digits()


def test_without_scikit_learn_it_is_said(tmp_path, monkeypatch: pytest.MonkeyPatch):
    place(tmp_path, monkeypatch, None)
    with pytest.raises(MissingData, match="pip install scikit-learn"):
        digits.read_digits()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingData, match="pip install scikit-learn"):
        digits.read_digits()


def test_options_and_splits_are_refused(tmp_path):
    with pytest.raises(DataError, match="no options"):
        next(digits.iter_images(tmp_path, shade=1))
    with pytest.raises(DataError, match="no split"):
        next(digits.iter_images(tmp_path, "lake"))
    assert digits.SPEC.shape == omniglot.SPEC.shape
