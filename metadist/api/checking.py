"""Holding a part to its contract."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.api.modules import of_factory

if TYPE_CHECKING:
    from metadist.contracts import Report


def check(
    plugin: str | Path | Callable[..., Any],
    *,
    plugins: str | Path | Sequence[str | Path] = (),
    options: Iterable[str] = (),
    source: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Hold a learner, network, objective, dataset, family of functions or search space to what
    such a part promises, on tiny synthetic tasks.

    The part's code is run in this process. No data, run directory, Ray or MLflow is needed.

    Args:
        plugin: path of a file or dotted name of a module, as ``plugins`` of :func:`train`; or the
            name of a part that is installed, as ``maml``, with its kind where there are two of
            that name (``tune_space.anil``); or a function or class that makes a network, as
            ``backbone`` of :func:`train`.
        plugins: files and modules with other parts that this one uses, as the dataset of a search
            space.
        options: of the part, as ``first_order=true``.
        source: folder or file with the raw images of a dataset that does not make itself.
        progress: is told what is being looked at.

    Returns:
        The report: ``ok``, ``findings`` and the names of the ``checks``; it prints as lines.

    Raises:
        PluginError: it cannot be imported, or is no part.
        RecipeError: an option is none of the part's.
    """
    from metadist import plugins as outside
    from metadist.contracts import UnknownPart, check_part, kind_of
    from metadist.errors import PluginError
    from metadist.overrides import parse_override

    if callable(plugin):
        plugin, _ = of_factory(plugin)
    if not isinstance(plugin, str | Path):
        raise PluginError(
            "a file, the name of a module or a part, or what makes a network is needed, got "
            f"{plugin!r}"
        )
    given: dict[str, Any] = {}
    for text in options:
        _, name, given[name] = parse_override(f"option.{text}")
    look = functools.partial(
        check_part,
        options=given,
        source=None if source is None else Path(source),
        say=progress or (lambda line: None),
    )
    with outside.use(plugins):
        if not isinstance(plugin, Path) and not ("/" in plugin or plugin.endswith(".py")):
            try:
                return look(*kind_of(plugin))
            except UnknownPart:
                if "." not in plugin and not Path(f"{plugin}.py").is_file():
                    raise
        with outside.use(plugin) as (used,):
            return look(used.kind, used.name, file=outside.source_of(used))
