"""The command line that a job runs, and what has to be added to it so that it may run anywhere.

A job's own directory is a copy on one node that is gone when the job ends. So whatever a command
reads or writes must have a place that every node sees, and a run must have a name before it is
submitted: whoever submits the same again, by hand or because the head died, means the same run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipeline.storage.typed_paths import typed_path
from metadist.errors import JobError

#: Commands that a job may run.
VERBS = ("train", "tune", "evaluate", "reproduce")
AUTO = "auto"
NO_TRACKING = (
    "this job's runs are in an object store, which has no place for MLflow's file: set "
    "MLFLOW_TRACKING_URI on the cluster, or submit with --tracking-uri URI or --offline"
)
_SQLITE = re.compile(r"sqlite(\+\w+)?:///(?!/)")


@dataclass(frozen=True)
class Command:
    """``metadist VERB`` with arguments and options, each as it was written.

    Attributes:
        verb: one of :data:`VERBS`.
        arguments: those without an option, in order.
        options: pairs of ``--option`` and value, in order; the value of a flag is None.
    """

    verb: str
    arguments: tuple[str, ...] = ()
    options: tuple[tuple[str, str | None], ...] = ()

    def values(self, option: str) -> tuple[str, ...]:
        """The values of an option that may be given several times."""
        return tuple(value for name, value in self.options if name == option and value is not None)

    def value(self, option: str) -> str | None:
        """The value of an option: the last one counts."""
        return next(reversed(self.values(option)), None)

    def has(self, option: str) -> bool:
        """Whether an option or flag is given."""
        return any(name == option for name, _ in self.options)

    def adding(self, option: str, value: str | None = None) -> Command:
        """The command with one option more."""
        return replace(self, options=(*self.options, (option, value)))

    @property
    def argv(self) -> list[str]:
        """What comes after ``metadist``."""
        words = [word for pair in self.options for word in pair if word is not None]
        # What looks like an option must come last, behind the mark that ends options.
        if any(argument.startswith("-") for argument in self.arguments):
            return [self.verb, *words, "--", *self.arguments]
        return [self.verb, *self.arguments, *words]


@dataclass(frozen=True)
class Plan:
    """What a job is to do.

    Attributes:
        command: complete, for the cluster.
        run: name of the run or search that it makes or continues, or of the table; for an
            evaluation that of the (first) run; None if only the cluster can know.
        cpus: that its driver needs: one where it computes itself, none where workers do.
    """

    command: Command
    run: str | None
    cpus: float


def plan(command: Command, stamp: str) -> Plan:
    """Complete a command line so that it may run, and run again, on a cluster.

    Args:
        stamp: ends the name of a run that has none yet: another one each time, for all users.

    Raises:
        JobError: a place in it would mean a directory of the job's own.
    """
    command = _at_home(command)
    _check_places(command)
    if command.verb == "evaluate":
        return Plan(command, Path(command.arguments[0]).name, 1.0)
    if command.has("--list"):
        raise JobError(f"{command.verb} --list asks nothing of a cluster: run it without submit")
    if command.verb == "reproduce":
        run: str | None = as_name(Path(command.arguments[0]).stem)  # it names its runs itself
    else:
        command, run = _named(command, stamp)
    alone = command.verb == "train" and command.value("--workers") in (None, "0")
    if alone and command.has("--address"):
        raise JobError("--address needs --workers: how many of the cluster's workers?")
    if not alone and not command.has("--address"):
        command = command.adding("--address", AUTO)
    return Plan(command, run, 1.0 if alone else 0.0)


def _at_home(command: Command) -> Command:
    """With ``~`` as the home directory of whoever submits, as a shell would have it."""

    def whole(word: str | None) -> str | None:
        return str(typed_path(word)) if word and word.startswith("~") else word

    options = tuple((name, whole(value)) for name, value in command.options)
    return replace(
        command, arguments=tuple(whole(a) or a for a in command.arguments), options=options
    )


def _named(command: Command, stamp: str) -> tuple[Command, str | None]:
    """Fix which run or search is meant; a second job of the same command continues it."""
    resume, name = command.value("--resume"), command.value("--name")
    if resume not in (None, AUTO):
        return command, Path(resume or "").name
    if resume == AUTO and name is None:
        if command.verb == "tune":
            raise JobError("tune --resume auto: --name says which search")
        if not command.arguments:
            raise JobError("train --resume auto: RECIPE or --name says which run")
        return command, None  # the newest run of this recipe
    if name is None:
        stem = as_name(Path(command.arguments[0]).stem if command.arguments else "search")
        name = f"{stem}-{stamp}"
        command = command.adding("--name", name)
    return (command if resume else command.adding("--resume", AUTO)), name


def as_name(text: str) -> str:
    """``text`` as something that may name a run, a file and a job."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip("._-")[:100] or "run"


def _check_places(command: Command) -> None:
    """See that what is read and written outlives the job and is seen by every node."""
    runs = command.value("--runs-dir")
    if runs is None:
        raise JobError(
            "--runs-dir is needed: a job's own directory is gone when it ends. Name a place that "
            "every node sees, as --runs-dir /shared/runs (if the cluster is this machine alone: "
            '--runs-dir "$PWD/runs")'
        )
    if command.verb == "reproduce" and command.value("--out") is None:
        raise JobError("--out is needed: a job's own directory is gone when it ends")
    for option in ("--runs-dir", "--data-dir", "--out"):
        given = command.value(option)
        if given is not None and not _everywhere(given):
            raise JobError(
                f"{option} {given!r}: a job has another current directory, on another machine; "
                "give an absolute path, which every node sees"
            )
    named = [*command.arguments] if command.verb == "evaluate" else []
    for given in (*named, *command.values("--resume")):
        if "/" in given and not _everywhere(given):
            raise JobError(
                f"{given!r}: a job has another current directory; give the name that the run has "
                "under --runs-dir, or an absolute path"
            )
    uri = command.value("--tracking-uri")
    if uri is not None and (_SQLITE.match(uri) or ("://" not in uri and not _everywhere(uri))):
        raise JobError(
            f"--tracking-uri {uri!r}: a file in the job's own directory; give an absolute path "
            "(sqlite:////shared/mlflow.db) or a server"
        )


def _everywhere(place: str) -> bool:
    return place.startswith("/") or "://" in place


def data_beside(runs: str) -> str:
    """Where data are if nobody says: beside the runs, which every node sees."""
    if "://" not in runs:
        return str(Path(runs).parent / "data")
    scheme, _, place = runs.rstrip("/").partition("://")
    return f"{scheme}://{place.rpartition('/')[0] or place}/data"


def needs_tracking(command: Command) -> bool:
    """Whether MLflow's own file would be in the job's directory, and gone with it."""
    named = command.has("--tracking-uri") or command.has("--offline")
    at_store = "://" in (command.value("--runs-dir") or "")
    return at_store and not named and command.verb != "evaluate"
