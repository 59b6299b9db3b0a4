"""Data, prepared and sharded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metadist.api.common import Plugins, Record
from metadist.driver.directories import data_directory
from metadist.process.announce import Announce, quiet

if TYPE_CHECKING:
    from data_pipeline.datasets import Option
    from data_pipeline.episodes.types import EpisodeSource
    from data_pipeline.shards.layout import Payload
    from data_pipeline.store.class_store import ClassStore

#: Images up to this side are small enough to lie in every episode that uses them.
_INLINE_SIDE = 32


def prepare(
    dataset: str,
    *,
    source: str | Path | None = None,
    download: bool = False,
    split: str = "",
    name: str = "",
    options: Mapping[str, Option] | None = None,
    follow_links: bool = False,
    replace: bool = False,
    data_dir: str | Path | None = None,
    plugins: Plugins = (),
    skip_damaged: bool = False,
    attributes: str | Path | None = None,
    announce: Announce = quiet,
    progress: Callable[[int, str], None] | None = None,
) -> ClassStore:
    """Turn a dataset's images into a class store under the data directory.

    Args:
        dataset: a name of ``metadist data list``.
        source: where the images are; not for datasets that make themselves.
        download: fetch them from their home first.
        split: a named division of the classes; the dataset's default if empty.
        name: of the store; ``<dataset>-<split>`` if empty.
        options: of the dataset; the rest keep their defaults.
        follow_links: let links lead out of ``source``.
        replace: make it anew even if it is there.
        plugins: see :func:`train`.
        skip_damaged: go on without images that cannot be decoded; the store's description names
            them.
        attributes: a Parquet file of ``class_name``, ``attribute``, ``value``: attributes of the
            classes, which episodes can carry (``data.attributes``); kept beside the store.
        announce: is told, in a line each, what is happening.
        progress: called with (images written, class name) at the start of each class; never if the
            store is there already.

    Raises:
        DataError: no such dataset, its source is missing, damaged or unsafe, or a store that was
            made from other images or otherwise is there.
        PluginError: a plugin cannot be used.
    """
    from data_pipeline.storage.typed_paths import typed_path
    from data_pipeline.store.attributes import save_attributes
    from data_pipeline.store.build import build_store, store_root
    from metadist.plugins import use

    with use(plugins):
        directory = data_directory(data_dir)
        place = None if source is None else typed_path(source)
        if download:
            store_root(directory, dataset, split, name)  # refused before anything is fetched
            place = _download(dataset, directory, announce)
        store = build_store(
            dataset,
            directory,
            source=place,
            split=split,
            name=name,
            options=options,
            progress=progress,
            follow_links=follow_links,
            replace=replace,
            skip_damaged=skip_damaged,
        )
        if attributes is not None:
            save_attributes(store, typed_path(attributes))
        return store


def _download(dataset: str, data_dir: Path, announce: Announce) -> Path:
    """Where a dataset's own module has put what it fetched."""
    from data_pipeline import datasets
    from data_pipeline.errors import DataError

    module = datasets.load(dataset)
    if module.SPEC.embedded:
        raise DataError(f"{dataset} makes itself: there is nothing to download; drop --download")
    fetch: Callable[[Path], Path] | None = getattr(module, "download", None)
    home = module.SPEC.homepage
    if fetch is None:
        raise DataError(
            f"{dataset} cannot be downloaded by this program: get its images yourself"
            f"{f' (its home: {home})' if home else ''} and run 'metadist data prepare {dataset} "
            "--source PATH'"
        )
    target = data_dir / dataset / "source"
    announce(f"Fetching {dataset} from {home or 'its home'} into {target}")
    return fetch(target)


def shard(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    count: int | None = None,
    writers: int | None = None,
    payload: Literal["auto", "inline", "index"] = "auto",
    shard_episodes: int = 4096,
    replace: bool = False,
    data_dir: str | Path | None = None,
    plugins: Plugins = (),
    announce: Announce = quiet,
    progress: Callable[[int, int], None] | None = None,
) -> Record:
    """Write the training episodes of a recipe as shards; ``data.storage = "shards"`` reads them.

    What is not explained here is as in :func:`train`.

    Args:
        count: episodes; as many as the run reads if not given.
        writers: processes; one for each core if not given. The bytes do not depend on it.
        payload: ``inline`` holds images, ``index`` looks them up in the class store; ``auto``
            decides by their size.
        shard_episodes: episodes of one shard file, a multiple of 64.
        replace: write anew even if shards are there.
        progress: called with (episodes written, ``count``) at the start and after each shard.

    Returns:
        directory, episodes, payload, ``written`` (False: they were there already) and ``needed``,
        the episodes that a run of this recipe reads.

    Raises:
        DataError: missing or damaged data, no room, or other shards are there.
        RecipeError: see :func:`train`.
    """
    from data_pipeline.shards.index import DESCRIPTION
    from data_pipeline.shards.writer import estimate, write_shards
    from data_pipeline.storage.object_uri import address_of
    from data_pipeline.storage.working_copies import pull, push
    from metadist.compute.resolve import of_its_dataset
    from metadist.driver.preflight import open_data
    from metadist.episode_data.places import kind_of, shards_root
    from metadist.plugins import use
    from metadist.process.resources import available_cores, human_bytes
    from metadist.recipe.schema import load_recipe

    with use(plugins):
        parsed = of_its_dataset(load_recipe(str(recipe), tuple(overrides)))
        directory = data_directory(data_dir)
        data = open_data(parsed, directory, announce)
        source = data.live("train", parsed.data.queries, parsed.data.seed)
        count = count or data.needed
        chosen: Payload = "index" if payload == "index" else "inline"
        if payload == "auto" and data.store and max(data.store.shape[:2]) > _INLINE_SIDE:
            chosen = "index"
        root = shards_root(directory, parsed)
        result = {"directory": address_of(root), "needed": data.needed}
        if not replace:
            pull(root, DESCRIPTION)
            if root.exists():
                demanded = None if payload == "auto" else chosen
                held = _held_shards(root, source, count, demanded, data.store)
                push(root, DESCRIPTION)  # goes on with what an interrupt may have left undone
                return {**result, **held, "written": False}
        predicted = estimate(source, count, payload=chosen)
        announce(
            f"{count} episodes of about {predicted.bytes_per_episode:,.0f} bytes, together about "
            f"{human_bytes(predicted.total_bytes)}, go to {address_of(root)}"
        )
        if progress is not None:
            progress(0, count)
        kind = kind_of(parsed.data.dataset)
        here_only = kind == "source" or (kind == "functions" and bool(plugins))
        write_shards(
            source,
            count,
            root,
            payload=chosen,
            episodes_per_shard=shard_episodes,
            # Other processes do not know the plugins, and images do not need them here.
            writers=1 if here_only else writers or available_cores(),
            progress=progress,
            replace=replace,
        )
    return {**result, "episodes": count, "payload": chosen, "written": True}


def _held_shards(
    root: Path, source: EpisodeSource, count: int, payload: Payload | None, store: ClassStore | None
) -> Record:
    """The shards at ``root``, if they are those that are asked for; raises DataError."""
    from data_pipeline.episodes.sources import require_drawn
    from data_pipeline.errors import DataError
    from data_pipeline.shards.index import read_description
    from data_pipeline.shards.reader import open_shards

    try:
        held = open_shards(root, source.identity, count, store)
        got = read_description(root)[0].payload
        if payload not in (None, got):
            raise DataError(f"{root}: payload {payload!r} is asked for, {got!r} is there")
        if store is None:
            require_drawn(held, held.length, source, f"the shards in {root}")
    except DataError as error:
        raise type(error)(f"{error}. To write these shards anew, add --replace") from None
    return {"episodes": held.length, "payload": got}
