"""Errors that a user can act on. Each says what was demanded, what was got and how to mend it."""

from __future__ import annotations

import signal


class MetadistError(Exception):
    """Base of every error this package raises on purpose."""


class RecipeError(MetadistError):
    """A recipe, an override or the name of one is wrong."""


class PluginError(MetadistError):
    """A part from outside cannot be imported, is no part, has a name that is taken, or does not
    return what its kind has to."""


class PluginFailure(PluginError):
    """The code of a part from outside has raised an error; file, line and part are named."""


class TableError(MetadistError):
    """A published table, or the request to reproduce one, is wrong."""


class SpaceError(MetadistError):
    """A search space, or the request to search it, is wrong."""


class RunError(MetadistError):
    """A run directory, its state or a request to continue it is wrong."""


class AdaptError(MetadistError):
    """Images, labels or steps that a trained learner cannot adapt with."""


class DamagedCheckpoint(RunError):
    """A checkpoint's bytes are not the bytes that were written; the file is named."""


class GivenUp(RunError):
    """Workers that ended again and again, for no reason that is known to be the machine's."""


class Terminated(KeyboardInterrupt):
    """Asked to end by a signal; as with Ctrl-C, and the exit status tells whoever asked by which.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        #: As a shell has it.
        self.exit_status = 128 + number


class SupersededError(RunError):
    """Another, later attempt at the same run has taken over; this one must not write any more."""


class NumericsError(MetadistError):
    """Processes or machines whose arithmetic differs cannot give the same bits."""


class NonFiniteError(MetadistError):
    """Training met a loss or gradient that is not finite; the episodes are named."""


class ResourceError(MetadistError):
    """A cluster or machine lacks what the run asks for."""


class TrackingError(MetadistError):
    """The tracking server cannot be reached or refuses what it is sent."""


class SchemaError(TrackingError):
    """The tables of a tracking store are those of another MLflow.

    Args:
        found: what is there and what is needed.
        cure: how to mend it.
    """

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found, cure)
        self.found, self.cure = found, cure

    def __str__(self) -> str:
        return f"{self.found}; {self.cure}"


class JobError(MetadistError):
    """A job cannot be submitted, found or followed, or its command line cannot run on a cluster."""


class UnreachableError(JobError):
    """A cluster does not answer; it may again."""


class JobUnknown(JobError):
    """A cluster knows no such job: it was never there, or its head has lost its memory."""


class UndeclaredNeed(MetadistError):
    """A learner reads of a task what it has not declared, or what is not there."""
