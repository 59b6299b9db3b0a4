"""Omniglot in every form in which it may be given."""

from __future__ import annotations

import pytest
from omniglot_files import ZIPS

from data_pipeline.datasets._omniglot_source import read_drawings


@pytest.fixture(scope="session")
def original(data_root):
    return data_root / "omniglot"


@pytest.fixture(scope="session")
def drawings(original):
    return read_drawings(original / "omniglot_png.parquet")[0]


@pytest.fixture
def zips(original, tmp_path):
    for name in ZIPS:
        (tmp_path / name).write_bytes((original / name).read_bytes())
    return tmp_path


@pytest.fixture(scope="session")
def tree(drawings, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for path, data in drawings.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root
