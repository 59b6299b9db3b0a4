"""``metadist adapt`` as it is typed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from ended_runs import IMAGES, ended_run, image_data
from own_images import save

from metadist.cli.main import main


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run ``one``, and images of three kinds under ``support`` and ``query``."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    ended_run(root, "one", IMAGES, "eval.episodes=2", "eval.extra_queries=0")
    rng = np.random.default_rng(0)
    for kind in ("ant", "bee", "cat"):
        for part in ("support", "query"):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            save(root / part / kind / "1.png", pixels)
    return root


@pytest.fixture(autouse=True)
def _here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["adapt", "one", "--support", "support", *arguments], prog_name="metadist"
    )


def test_words_files_and_json(place):
    result = adapt("--query", "query", "--out", "words")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "one: 3 images labelled by maml, adaptation steps: 1"
    assert lines[1] == "Labels (and their support images): ant (1), bee (1), cat (1)"
    assert " of 3 are right: " in lines[2]
    assert lines[3].startswith("Note: Transductive normalisation")
    assert lines[4] == f"Files: {place / 'words'}"
    again = adapt("--query", "query", "--out", "json", "--json", "--steps", "2")
    document = json.loads(again.stdout)
    assert document["steps"] == 2
    assert document["directory"] == str(place / "json")
    assert "adaptation steps: 2" in again.stderr


def test_damaged_images_are_skipped_on_request(place, tmp_path):
    shutil.copytree("query", tmp_path / "query")
    (tmp_path / "query/bee/2.png").write_bytes(b"none")
    asked = ("--query", str(tmp_path / "query"), "--out", str(tmp_path / "out"), "--json")
    refused = adapt(*asked)
    assert refused.exit_code == 1
    assert "bee/2.png: not an image" in refused.stderr
    document = json.loads(adapt(*asked, "--skip-damaged").stdout)
    assert document["passed_over"] == [str(tmp_path / "query/bee/2.png")]
    assert document["queries"] == 3


def test_links_are_followed_on_request(place, tmp_path):
    for kind in ("ant", "bee", "cat"):
        (tmp_path / "linked" / kind).mkdir(parents=True)
        (tmp_path / "linked" / kind / "1.png").symlink_to(place / "query" / kind / "1.png")
    asked = ("--query", str(tmp_path / "linked"), "--out", str(tmp_path / "out"), "--json")
    refused = adapt(*asked)
    assert refused.exit_code == 1
    # The command that refuses them takes the option that it names.
    assert "leads out" in refused.stderr
    assert "add --follow-links; else" in refused.stderr
    followed = json.loads(adapt(*asked, "--follow-links").stdout)
    plain = json.loads(adapt("--query", "query", "--out", str(tmp_path / "plain"), "--json").stdout)
    assert followed["queries"] == 3
    assert followed["right"] == plain["right"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--query", "gone"], ["gone: no such folder"]),
        (["--query", "hollow"], ["hollow: holds no image"]),
        (["--query", "cut"], ["1.png: damaged PNG"]),
        (["--query", "query", "--out", "support"], ["exists already and is kept"]),
        (["--query", "query", "--steps", "-1"], ["--steps"]),
        (["--query", "query", "--data-dir", "none"], ["none"]),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(arguments, words, place):
    Path("hollow").mkdir(exist_ok=True)
    Path("cut").mkdir(exist_ok=True)
    whole = (place / "support" / "ant" / "1.png").read_bytes()
    Path("cut/1.png").write_bytes(whole[: len(whole) // 2])
    before = sorted(os.listdir())
    result = adapt(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    error = result.stderr.splitlines()[-1]
    for word in words:
        assert word in error
    assert sorted(os.listdir()) == before
