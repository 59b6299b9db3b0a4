"""Data, prepared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from metadist.api.common import Plugins
from metadist.driver.directories import data_directory

if TYPE_CHECKING:
    from data_pipeline.datasets import Option
    from data_pipeline.store.class_store import ClassStore


def prepare(
    dataset: str,
    *,
    source: str | Path | None = None,
    split: str = "",
    name: str = "",
    options: Mapping[str, Option] | None = None,
    follow_links: bool = False,
    replace: bool = False,
    data_dir: str | Path | None = None,
    plugins: Plugins = (),
    skip_damaged: bool = False,
) -> ClassStore:
    """Turn a dataset's images into a class store under the data directory.

    Args:
        dataset: a name of ``metadist data list``.
        source: where the images are; not for datasets that make themselves.
        split: a named division of the classes; the dataset's default if empty.
        name: of the store; ``<dataset>-<split>`` if empty.
        options: of the dataset; the rest keep their defaults.
        follow_links: let links lead out of ``source``.
        replace: make it anew even if it is there.
        plugins: see :func:`train`.
        skip_damaged: go on without images that cannot be decoded; the store's description names
            them.

    Raises:
        DataError: no such dataset, its source is missing, damaged or unsafe, or a store that was
            made from other images or otherwise is there.
        PluginError: a plugin cannot be used.
    """
    from data_pipeline.storage.typed_paths import typed_path
    from data_pipeline.store.class_store import build_store
    from metadist.plugins import use

    with use(plugins):
        return build_store(
            dataset,
            data_directory(data_dir),
            source=None if source is None else typed_path(source),
            split=split,
            name=name,
            options=options,
            follow_links=follow_links,
            replace=replace,
            skip_damaged=skip_damaged,
        )
