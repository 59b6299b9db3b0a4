"""Code from outside this package: its mistakes in one line that its author can act on."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from data_pipeline.errors import DataError
from metadist.errors import MetadistError, PluginFailure


@contextlib.contextmanager
def failures_told(parts: Callable[[], Mapping[str, tuple[str, str]]]) -> Iterator[None]:
    """Turn what the code of a part from outside raises by mistake into one line.

    Args:
        parts: of each source file: the part in words, and how ``metadist check`` is told of it.

    Raises:
        PluginFailure: a frame of the error is in one of the files; the cause is chained.
    """
    try:
        yield
    except Exception as error:
        # Those speak for themselves, and of a machine's failures no source is to blame.
        ours = isinstance(error, MetadistError | DataError | OSError | MemoryError)
        if ours or type(error).__name__ == "OutOfMemoryError":
            raise
        known = parts()
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((f for f in reversed(frames) if f.filename in known), None)
        if frame is None:
            raise
        part, given = known[frame.filename]
        said = " ".join(str(error).split())
        raise PluginFailure(
            f"{Path(frame.filename).name}:{frame.lineno}: {type(error).__name__}: {said} "
            f"(in {part}); run metadist check {given} and mend it"
        ) from error


def makers_in(module: ModuleType) -> list[str]:
    """What in a module may make networks: its own ``make(inputs, outputs, …)``, by name."""
    return [name for name, made in vars(module).items() if _makes(made, module, name)]


def _makes(made: object, module: ModuleType, name: str) -> bool:
    if name.startswith("_") or getattr(made, "__module__", "") != module.__name__:
        return False
    try:
        parameters = [*inspect.signature(made).parameters.values()]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.default is p.empty]
    return callable(made) and len(needed) == 2 and needed == parameters[:2]
