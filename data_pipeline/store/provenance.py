"""What a class store was made from: what its dataset says, the contents of files, foreign code.

It stands in the store's description and not in its digest, which knows classes and pixels. A store
is used again for the same contents only: names, sizes and times of files decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipeline import registry
from data_pipeline.datasets import Dataset, Option
from data_pipeline.errors import DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.storage.folders import contents_sha256, files_below

#: Begins the keys of digests of what the source holds.
SOURCE = "source_sha256"
#: The key of the digest of the source of a dataset that is not one of ours.
CODE = "code_sha256"
#: Says how files were found; the same files found otherwise are the same.
LINKS = "links"


def describe(
    module: Dataset, source: Path | None, source_options: Mapping[str, Option]
) -> dict[str, str]:
    """The description of a store made from ``source``, which None stands for where there is none.

    Raises:
        DataError: from the dataset, or a source is not there or cannot be read.
    """
    say = getattr(module, "describe", None)
    try:
        described = {} if say is None else dict(say(source))
        if source is not None and not any(key.startswith(SOURCE) for key in described):
            described[SOURCE] = _source_sha256(source)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
    if source is not None and local.follows_links():
        described[LINKS] = "followed"
    return described | settings(module, source_options)


def settings(module: Dataset, source_options: Mapping[str, Option]) -> dict[str, str]:
    """What a description says beside the source: options that are not the default, and code."""
    usual = module.SPEC.source_options
    changed = {key: str(value) for key, value in source_options.items() if value != usual[key]}
    return changed | code(module)


def code(module: Dataset) -> dict[str, str]:
    """The digest of the source of a dataset that comes from outside; nothing for one of ours."""
    sha256 = registry.source_sha256(module)
    return {CODE: sha256} if sha256 else {}


def check_same(
    root: Path,
    mismatch: Sequence[str],
    held: Mapping[str, str],
    wanted: Mapping[str, str],
    mend: str,
    *,
    whole: bool = False,
) -> None:
    """Refuse the store at ``root`` if it is another than is asked for.

    Args:
        root: where it lies.
        mismatch: which of its settings are others, in words.
        held: its description.
        wanted: what that should say.
        mend: how another store is replaced.
        whole: it should say nothing else; otherwise what it says beside is not asked for.

    Raises:
        DataError: it is another, or does not tell.
    """
    unrecorded = [key for key in wanted if key.startswith((SOURCE, CODE)) and key not in held]
    if unrecorded and not mismatch:
        named = whole and any(key.startswith(SOURCE) for key in unrecorded)
        instead = ". To use it as it is, leave --source out" if named else ""
        raise DataError(
            f"{root}: made by an earlier version, which did not record {', '.join(unrecorded)}, so "
            f"it cannot be told whether it was made from the same: {mend} (of equal images comes "
            f"an equal digest){instead}"
        )
    if not whole:
        held = {key: held.get(key, "") for key in wanted}
    differences = [
        _difference(key, held.get(key, "nothing"), wanted.get(key, "nothing"))
        for key in sorted({*held, *wanted} - {LINKS})
        if held.get(key) != wanted.get(key)
    ]
    if other := [*mismatch, *differences]:
        raise DataError(f"{root} holds another store ({'; '.join(other)}): {mend}")


def _difference(key: str, held: str, wanted: str) -> str:
    if key.startswith((SOURCE, CODE)):
        whose = "code of the dataset" if key == CODE else "contents of the source"
        return f"other {whose}: {key} {held[:12]}, not {wanted[:12]}"
    return f"source: {key} {held!r}, not {wanted!r}"


def _source_sha256(source: Path) -> str:
    """Digest of all that a file or folder holds, for datasets that say nothing of it themselves."""
    if source.is_file():
        return local.sha256_file(source)
    if not source.is_dir():
        raise MissingData(f"{source}: no such file or folder")
    return contents_sha256(source, [relative for relative, _ in files_below(source, [])])
