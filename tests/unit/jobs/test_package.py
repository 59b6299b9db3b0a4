"""What a job takes along: what its command line names, this code if asked to, and nothing else."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from submitted import as_written

from metadist.errors import JobError
from metadist.jobs import package as packing
from metadist.jobs.package import Package, pack, runtime_env
from metadist.process.imports import PACKAGES


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A user's directory, with much that is none of a job's business."""
    folder = tmp_path / "here"
    for place in (
        "conf/mine.toml",
        "other/mine.toml",
        "toy.py",
        "mine/toy.py",
        "mine/__init__.py",
        "mine/sub/more.py",
        "mine/data/pixels.npy",
        "mine/runs/x/run.json",
        "mine/.git/config",
        "mine/.env",
        "mine/key.pem",
        "mine/__pycache__/toy.pyc",
        "runs/x/run.json",
        "data/pixels.npy",
        ".venv/lib/x.py",
        "auth_token",
    ):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {place}\n")
    (folder / "mine" / "link.py").symlink_to(folder / "auth_token")
    return folder


def packed(here: Path, line: str, secrets: dict[str, str] | None = None, **more: Any) -> Package:
    into = here.parent / "into"
    into.mkdir()
    given = {"code": None, "facts": {"a": 1}, "here": here, "secrets": secrets or {}, **more}
    return pack(as_written(line), into, **given)


def sent(package: Package) -> set[str]:
    return {
        str(p.relative_to(package.directory)) for p in package.directory.rglob("*") if p.is_file()
    }


def test_only_what_is_named_is_sent(here: Path) -> None:
    line = "tune maml-lr --base conf/mine.toml --plugin ./toy.py --plugin mine.toy --runs-dir /r"
    package = packed(here, line)
    assert sent(package) == {
        "metadist_job.py",
        "job.json",
        "files/mine.toml",
        "files/toy.py",
        "mine/__init__.py",
        "mine/toy.py",
        "mine/sub/more.py",
    }
    assert package.command == as_written(
        "tune maml-lr --base files/mine.toml --plugin files/toy.py --plugin mine.toy --runs-dir /r"
    )
    # What lies beside a plugin's code and was left is said.
    left = {str(Path(p).relative_to(here / "mine")) for p in package.left}
    assert left == {"data", "runs", ".git", ".env", "key.pem", "link.py"}
    assert json.loads((package.directory / "job.json").read_text()) == {"a": 1}
    assert package.modules == []


def test_built_in_recipes_are_there_already(here: Path) -> None:
    package = packed(here, "train sinusoid-5shot-maml --runs-dir /r")
    assert sent(package) == {"metadist_job.py", "job.json"}
    assert package.command.arguments == ("sinusoid-5shot-maml",)


def test_files_of_one_name_keep_it(here: Path) -> None:
    """A run is named by its recipe's file, a plugin by its own."""
    line = "train other/mine.toml --plugin ./toy.py --plugin mine/toy.py --plugin toy.py"
    package = packed(here, f"{line} --runs-dir /r")
    assert package.command.arguments == ("files/mine.toml",)
    assert package.command.values("--plugin") == ("files/toy.py", "files2/toy.py", "files/toy.py")
    assert "mine" in (package.directory / "files2" / "toy.py").read_text()


def test_a_table_goes_with_its_recipes(here: Path) -> None:
    (here / "conf/t.toml").write_text('[base]\nrecipe = "mine.toml"\n[runs.a]\nrecipe = "gone"\n')
    package = packed(here, "reproduce conf/t.toml --out /o")
    assert package.command.arguments == ("files/t.toml",)
    assert {"files/t.toml", "files/mine.toml"} <= sent(package)
    assert (package.directory / "files/mine.toml").read_text() == "# conf/mine.toml\n"


def test_a_factory_is_named_behind_its_file(here: Path):
    line = "train x --plugin ./toy.py:make --plugin mine.toy:make --runs-dir /r"
    package = packed(here, line)
    assert package.command.values("--plugin") == ("files/toy.py:make", "mine.toy:make")
    assert {"files/toy.py", "mine/toy.py"} <= set(sent(package))


def test_what_is_installed_is_not_sent(here: Path) -> None:
    (here / "json").mkdir()
    (here / "json" / "x.py").touch()
    assert "json/x.py" not in sent(packed(here, "train x --plugin json.x --runs-dir /r"))


@pytest.mark.parametrize(
    ("line", "place", "content", "words"),
    [
        ("train conf/mine.toml", "conf/mine.toml", "a = 'http://u:pa55@h'", "mine.toml: a user"),
        ("train conf/mine.toml", "conf/mine.toml", "a = 's3cret-of-mine'", "the value of MY_TOKEN"),
        ("train x --plugin toy.py", "toy.py", "a = 's3cret-of-mine'", "the value of MY_TOKEN"),
        ("train x --plugin mine.toy", "mine/sub/more.py", "s3cret-of-mine", "value of MY_TOKEN"),
        ("train conf/mine.toml", "conf/mine.toml", "\udcff\udcfe", "cannot be read as text"),
        ("train x --plugin ./none.py", "toy.py", "", "there is no such file"),
        ("train x --plugin toy.py", "toy.py", "x" * 5000, "at most 4,000 bytes"),
    ],
)
def test_what_is_not_sent(
    here: Path, line: str, place: str, content: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / place).write_text(content, errors="surrogateescape")
    monkeypatch.setattr(packing, "LIMIT", 4000)
    with pytest.raises(JobError, match=words) as caught:
        packed(here, f"{line} --runs-dir /r", {"MY_TOKEN": "s3cret-of-mine"})
    for secret in ("pa55", "s3cret"):
        assert secret not in str(caught.value)


def test_all_together_must_not_be_large(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (here / "mine" / f"big{number}.py").write_text("x" * 3000)
    monkeypatch.setattr(packing, "LIMIT", 8000)
    with pytest.raises(JobError, match=r"at most 8,000 are sent; the largest: .*big0.py \(3,000\)"):
        packed(here, "train x --plugin mine.toy --runs-dir /r")


def test_this_code_goes_along_whole(here: Path) -> None:
    import metadist

    root = Path(metadist.__file__).parents[1]
    package = packed(here, "train x --runs-dir /r", code=root)
    assert tuple(path.name for path in package.modules) == PACKAGES
    for module in package.modules:
        ours = {p.relative_to(root / module.name) for p in (root / module.name).rglob("*.py")}
        assert {p.relative_to(module) for p in module.rglob("*.py")} == ours
        assert (module / "COMMIT").read_text().strip()
    assert (package.modules[0] / "recipes" / "sinusoid-5shot-maml.toml").is_file()
    # A cluster that has no metadist of its own finds out which version this is.
    [metadata] = package.directory.glob("metadist-*.dist-info/METADATA")
    assert f"Version: {version('metadist')}\n" in metadata.read_text()
    sizes = [p.stat().st_size for p in package.directory.parent.rglob("*") if p.is_file()]
    assert sum(sizes) < 5_000_000


def test_the_runtime_environment_names_places_and_no_secret(here: Path) -> None:
    package = packed(here, "train x --runs-dir /r")
    assert runtime_env(package) == {
        "working_dir": str(package.directory),
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"},
    }
