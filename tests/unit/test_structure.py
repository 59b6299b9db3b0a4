"""The source keeps its shape: no circle, no import upwards, no long file, no full folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from structure import MOST_LINES, MOST_MODULES, ONE_FILE_EACH, ROOT, Source, wrong
from structure_picture import PICTURE, draw

CONTRACTS = """
[[tool.importlinter.contracts]]
type = "layers"
layers = ["metadist", "data_pipeline"]

[[tool.importlinter.contracts]]
type = "layers"
containers = ["metadist"]
layers = ["(upper)", "(left) | (right)", "(one) : (other)"]
"""


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Rooms in the order of CONTRACTS, each with one module."""
    (tmp_path / "pyproject.toml").write_text(CONTRACTS)
    rooms = [f"metadist/{name}" for name in ("upper", "left", "right", "one")]
    for folder in ("data_pipeline", *rooms):
        plant(tmp_path, f"{folder}/__init__.py", '"""A room: of some kind."""\n')
        plant(tmp_path, f"{folder}/module.py")
    plant(tmp_path, "metadist/__init__.py")
    plant(tmp_path, "metadist/other.py", "from metadist.one import module\n")
    plant(tmp_path, "metadist/upper/top.py", "import metadist.left.module, data_pipeline.module\n")
    return Source(tmp_path)


def plant(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.slow
def test_nothing_is_wrong_here() -> None:
    assert not wrong(Source(ROOT))
    assert all((ROOT / folder).is_dir() for folder in ONE_FILE_EACH)


@pytest.mark.slow
def test_the_picture_is_what_the_imports_say() -> None:
    mend = "python tests/support/structure.py --draw"
    assert (ROOT / PICTURE).read_text(encoding="utf-8") == draw(Source(ROOT)), mend


def test_the_page_names_every_room_and_only_files_that_are_there() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = Source(ROOT).units("metadist").keys() - {"__init__", "__main__"}
    assert not [room for room in sorted(rooms) if f"`{room}`" not in page]
    files = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", page.replace("NAME", "maml"))
    assert len(files) > 20
    above = (ROOT, ROOT / "metadist")
    assert not [file for file in files if not any((one / file).exists() for one in above)]


def test_what_is_right_passes(source: Source) -> None:
    assert not wrong(source)


@pytest.mark.parametrize(
    "text",
    [
        "from metadist.left import second\n",
        "from . import second\n",
        "def f():\n    from .second import f\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import metadist.left.second\n",
    ],
)
def test_a_circle_is_found(source: Source, text: str) -> None:
    plant(source.root, "metadist/left/module.py", text)
    plant(source.root, "metadist/left/second.py", "import metadist.left.module\n")
    (problem,) = wrong(source)
    assert problem.startswith("circle in metadist.left: module -> second -> module (")
    assert "metadist/left/second.py:1 imports metadist.left.module" in problem


def test_a_circle_of_rooms_is_found_where_no_modules_make_one(source: Source) -> None:
    plant(source.root, "metadist/left/module.py", "import metadist.one.module\n")
    plant(source.root, "metadist/one/second.py", "\nimport metadist.left.second\n")
    plant(source.root, "metadist/left/second.py")
    problem, upward = wrong(source)
    assert problem.startswith("circle in metadist: left -> one -> left (")
    assert "metadist/one/second.py:2 imports metadist.left.second" in problem
    assert upward.startswith("upward import: metadist/one/second.py:2 ")


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("metadist/left/module.py", "metadist.upper.module"),
        ("metadist/left/module.py", "metadist.right"),  # neighbours that must not know each other
        ("data_pipeline/module.py", "metadist.one.module"),
    ],
)
def test_an_upward_import_is_found(source: Source, file: str, imported: str) -> None:
    plant(source.root, "metadist/upper/top.py")
    plant(source.root, file, f"def f():\n    import {imported}\n")
    (problem,) = wrong(source)
    assert problem.startswith(f"upward import: {file}:2 imports {imported}, but pyproject.toml ")


@pytest.mark.parametrize(
    "file", ["metadist/left/module.py", "cluster/tool", "tests/unit/test_x.py"]
)
def test_a_long_file_is_found(source: Source, file: str) -> None:
    script = "#!/usr/bin/env python3\n"
    plant(source.root, file, script + "\n" * (MOST_LINES - 1))
    assert not wrong(Source(source.root))
    plant(source.root, file, script + "\n" * MOST_LINES)
    (problem,) = wrong(Source(source.root))
    assert problem.startswith(f"long file: {file} has {MOST_LINES + 1} lines")


def test_a_full_folder_is_found(source: Source) -> None:
    for number in range(MOST_MODULES - 1):
        plant(source.root, f"metadist/left/module{number}.py")
        plant(source.root, f"metadist/algorithms/module{number}.py")
    assert not wrong(source)
    for number in range(9):
        plant(source.root, f"metadist/left/one_more{number}.py")
        plant(source.root, f"metadist/algorithms/one_more{number}.py")
    (problem,) = wrong(Source(source.root))
    assert problem.startswith(f"full folder: metadist/left has {MOST_MODULES + 9} modules")


def test_an_arrow_that_follows_from_others_is_not_drawn(source: Source) -> None:
    """upper → left → one → data_pipeline, and upper → one."""
    plant(source.root, "metadist/left/module.py", "import metadist.one.module\n")
    plant(source.root, "metadist/one/module.py", "import data_pipeline.module\n")
    long_way = draw(source)
    plant(source.root, "metadist/upper/module.py", "import metadist.one.module\n")
    assert draw(Source(source.root)) == long_way
    assert long_way.count("marker-end") == 4  # other → one as well
    assert long_way.count(">A room</text>") == 4
