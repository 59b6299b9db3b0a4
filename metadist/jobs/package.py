"""What a job takes along: the files that its command line names, and perhaps this very code.

Never data, runs or an environment: whatever is sent is copied file by file into a directory of its
own first, so nothing goes with it by accident, and its size is known before anything is sent.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metadist.errors import JobError
from metadist.jobs import entrypoint
from metadist.jobs.command import Command
from metadist.jobs.secrets import check_text, check_values
from metadist.process.imports import PACKAGES, home
from metadist.process.provenance import commit
from metadist.recipe.files import builtin_names

#: The script that a job starts with, and what it reads, in the job's directory.
SCRIPT, FACTS = "metadist_job.py", "job.json"
#: The file of a shipped package that names its commit: there is no git where it arrives.
COMMIT = "COMMIT"
#: Bytes of all that is sent. Code and recipes take a few megabytes; more is a mistake.
LIMIT = 20_000_000
#: Seconds that a job which is stopped has to write a checkpoint and end its workers.
STOP_SECONDS = 60
#: Folders and files beside code that are no code.
_LEFT = {"data", "runs", "searches", "mlruns", "mlflow.db", "venv", "env", "node_modules"}
_LEFT_SUFFIXES = {".pem", ".key", ".p12", ".crt"}


def developed() -> bool:
    """Whether this code lies in the folder it is developed in, not where it was installed."""
    root = Path(home())
    return (root / "pyproject.toml").is_file() and (root / "tune_spaces").is_dir()


def pack(
    command: Command,
    into: Path,
    *,
    code: Path | None,
    facts: Mapping[str, Any],
    here: Path,
    secrets: Mapping[str, str],
) -> Package:
    """Copy what a job needs into an empty directory.

    Args:
        into: the directory.
        code: folder with the :data:`PACKAGES` to send along; None leaves the cluster its own.
        facts: what :data:`SCRIPT` is to know.
        here: the current directory of whoever submits.
        secrets: by name; see :func:`metadist.jobs.secrets.known_secrets`.

    Raises:
        JobError: a file is missing, is too large or holds a secret.
    """
    work = into / "work"
    work.mkdir()
    package = Package(command, work, here, secrets)
    if code:
        package.modules = [*_copy_code(code, into / "code", secrets)]
        # Let code that was not installed find the version it is of.
        number = version("metadist")
        facts_of = work / f"metadist-{number}.dist-info"
        facts_of.mkdir()
        (facts_of / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: metadist\nVersion: {number}\n", encoding="utf-8"
        )
    shutil.copyfile(entrypoint.__file__, work / SCRIPT)
    (work / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
    _check_size(into)
    return package


class Package:
    """What is sent: files that a command line names are copied.

    Attributes:
        directory: becomes the job's current directory.
        command: naming files by where they are in it.
        modules: packages that take the place of those that the cluster has.
        files: what was taken from the user: where it came from and where it goes.
        left: what lies beside code that was taken, and was not.
    """

    def __init__(
        self, command: Command, directory: Path, here: Path, secrets: Mapping[str, str]
    ) -> None:
        self.directory = directory
        self.modules: list[Path] = []
        self.files: dict[str, str] = {}
        self.left: list[str] = []
        self._here = here
        self._secrets = secrets
        arguments = command.arguments
        if command.verb == "train":
            arguments = tuple(self._recipe(name) for name in arguments)
        elif command.verb == "reproduce":
            arguments = tuple(self._table(name) for name in arguments)
        takes = {"--base": self._recipe, "--plugin": self._plugin}
        options = tuple(
            (name, takes[name](value) if value is not None and name in takes else value)
            for name, value in command.options
        )
        self.command = replace(command, arguments=arguments, options=options)

    def _recipe(self, name: str) -> str:
        path = self._here / name
        if name in builtin_names() or not path.is_file():
            return name  # whoever reads recipes says what there is
        place = self._take(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise JobError(f"{path}: cannot be read as text ({error})") from None
        check_text(str(path), text, self._secrets)
        return place

    def _table(self, name: str) -> str:
        """A table's file, and the recipes that lie beside it and are named in it."""
        path = self._here / name
        if path.suffix != ".toml" or not path.is_file():
            return name
        words = set(re.findall(r"""recipe\s*=\s*["']([^"']+)["']""", path.read_text("utf-8-sig")))
        for recipe in sorted(words):
            if (beside := path.parent / recipe).is_file():
                self._recipe(str(beside))
        return self._take(path)

    def _plugin(self, source: str) -> str:
        # A factory of modules stands behind a colon.
        place, colon, factory = source.partition(":")
        if "/" in place or place.endswith(".py"):
            path = self._here / place
            if not path.is_file():
                raise JobError(f"--plugin {source}: there is no such file")
            return f"{self._take(path)}{colon}{factory}"
        top = place.partition(".")[0]
        package, module = self._here / top, self._here / f"{top}.py"
        if self._is_here(top):
            for path in _source_files(package, self.left) if package.is_dir() else [module]:
                _copy(path, self.directory / path.relative_to(self._here), self._secrets)
            self.files[top] = top
        return source  # else it is installed, there as here

    def _is_here(self, top: str) -> bool:
        """Whether a module is found in the current directory, and not among what is installed."""
        if not ((self._here / top).is_dir() or (self._here / f"{top}.py").is_file()):
            return False
        spec = importlib.util.find_spec(top)
        if spec is None:
            return True
        places = [spec.origin or "", *(spec.submodule_search_locations or [])]
        return any(Path(p).resolve().is_relative_to(self._here.resolve()) for p in places if p)

    def _take(self, path: Path) -> str:
        """Copy a file; its place in the job's directory. Its name stays: things are named by it."""
        source = str(path.resolve())
        if source not in self.files:
            folders = itertools.chain(["files"], (f"files{n}" for n in itertools.count(2)))
            places = (f"{folder}/{path.name}" for folder in folders)
            place = next(p for p in places if p not in self.files.values())
            _copy(path, self.directory / place, self._secrets)
            self.files[source] = place
        return self.files[source]


def _copy(path: Path, target: Path, secrets: Mapping[str, str]) -> None:
    """Copy a file that is not too large and holds no secret."""
    if (size := path.stat().st_size) > LIMIT:
        raise JobError(
            f"{path}: {size:,} bytes; a job takes along code and recipes, at most {LIMIT:,} "
            "bytes in all. Data belong where every node sees them: --data-dir"
        )
    check_values(str(path), path.read_bytes().decode(errors="replace"), secrets)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _source_files(
    folder: Path, left: list[str], no_code: Collection[str] = _LEFT
) -> Iterator[Path]:
    """The files of a package; what does not look like a part of it is named in ``left``."""
    for path in sorted(folder.iterdir()):
        if path.name == "__pycache__" or path.suffix == ".pyc":
            continue
        odd = path.name.startswith(".") or path.name in no_code or path.suffix in _LEFT_SUFFIXES
        if odd or path.is_symlink() or not (path.is_dir() or path.is_file()):
            left.append(str(path))
        elif path.is_dir():
            yield from _source_files(path, left, no_code)
        else:
            yield path


def _copy_code(root: Path, into: Path, secrets: Mapping[str, str]) -> Iterator[Path]:
    """Copies of this distribution's packages, each with the commit it is of."""
    for name in PACKAGES:
        for path in _source_files(root / name, [], no_code=()):
            _copy(path, into / path.relative_to(root), secrets)
        (into / name / COMMIT).write_text(commit(root / name) + "\n")
        yield into / name


def _check_size(into: Path) -> None:
    sizes = {p.relative_to(into): p.stat().st_size for p in into.rglob("*") if p.is_file()}
    size = sum(sizes.values())
    if size > LIMIT:
        largest = sorted(sizes, key=lambda p: -sizes[p])[:3]
        raise JobError(
            f"the job would take along {size:,} bytes, at most {LIMIT:,} are sent; the largest: "
            + ", ".join(f"{p.relative_to(p.parts[0])} ({sizes[p]:,})" for p in largest)
        )


def runtime_env(package: Package) -> dict[str, Any]:
    """Ray's description of where the job runs. It can be read by everybody: no secrets in it."""
    environment: dict[str, Any] = {
        "working_dir": str(package.directory),
        # Ray kills after three seconds what it was asked to stop.
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
    }
    if package.modules:
        environment["py_modules"] = [str(path) for path in package.modules]
    return environment
