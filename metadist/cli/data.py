"""``metadist data``: prepare, shard, check and look at data."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from data_pipeline.errors import DataError
from metadist.cli import options
from metadist.cli.data_look import (
    described,
    prepared_items,
    preview,
    shape_text,
    verify,
)
from metadist.cli.groups import Group
from metadist.cli.options import available_cores, human_bytes

if TYPE_CHECKING:
    from data_pipeline.datasets import Dataset, Option
    from data_pipeline.episodes.types import EpisodeSource
    from data_pipeline.shards.layout import Payload
    from data_pipeline.store.class_store import ClassStore

Found = TypeVar("Found")
#: Images up to this side are small enough to lie in every episode that uses them.
_INLINE_SIDE = 32


@click.group(cls=Group)
def data() -> None:
    """Prepare, shard, check and look at data."""


@data.command("list")
@options.data_dir
def list_data(data_dir: str | None) -> None:
    """List datasets, function families and what is prepared."""
    from data_pipeline import datasets, functions
    from data_pipeline.storage.object_uri import address_of
    from data_pipeline.storage.working_copies import descriptions
    from metadist.api import data_directory

    click.echo("Image datasets")
    for name in datasets.names():
        if (module := _listed(datasets.load, name)) is None:
            continue
        spec = module.SPEC
        if spec.embedded:
            origin = "embedded: makes itself"
        else:
            origin = f"from {spec.homepage}" if spec.homepage else "from your own files"
        first, *rest = spec.splits
        splits = ", ".join([f"{first} (default)", *rest] if rest else [first])
        click.echo(f"  {name:18} {spec.summary}")
        click.echo(f"  {'':18} {shape_text(spec.shape)}; splits: {splits}; {origin}")
        click.echo(f"  {'':18} licence: {spec.licence}")
        if usual := {**spec.options, **spec.source_options}:
            given = ", ".join(f"{key}={value}" for key, value in usual.items())
            click.echo(f"  {'':18} options: {given}")
    click.echo("Function families (embedded, need no preparation)")
    for name in functions.names():
        if (found := _listed(functions.load, name)) is None:
            continue
        family = found.SPEC
        click.echo(f"  {name:18} {family.summary}")
        click.echo(
            f"  {'':18} {family.inputs} -> {family.outputs} dimensions; "
            f"true parameters: {', '.join(family.latent)}"
        )
        if family.floor is not None:
            click.echo(
                f"  {'':18} mean squared error without the support: at least {family.floor:.4g}"
            )
    root = data_directory(data_dir)
    with descriptions(root) as place:
        held = list(prepared_items(place))
        click.echo(f"Prepared in {address_of(root)}{'' if held else ': nothing'}")
        for item in held:
            click.echo(f"  {described(item, place)}")


def _listed(load: Callable[[str], Found], name: str) -> Found | None:
    """A part; None, said in its line, if the distribution it comes from is broken."""
    from data_pipeline.registry import PartError

    try:
        return load(name)
    except PartError as error:
        click.echo(f"  {name:18} {error}")
        return None


@data.command()
@click.argument("name")
@click.option("--source", metavar="PATH", help="Folder or file that holds the images.")
@click.option("--split", default="", metavar="SPLIT", help="Named division of the classes.")
@click.option(
    "--name", "store", default="", metavar="STORE", help="Name of the store. Default: NAME-SPLIT."
)
@click.option(
    "--option",
    "given",
    metavar="K=V",
    multiple=True,
    help="Option of the dataset, as size=84; see 'metadist data list'.",
)
@click.option("--download", is_flag=True, help="Fetch the images from their home first.")
@click.option(
    "--follow-links",
    is_flag=True,
    help="Let links lead out of the source, as in data sets of Hugging Face or DVC.",
)
@click.option("--replace", is_flag=True, help="Make it anew even if it is there.")
@click.option(
    "--skip-damaged",
    is_flag=True,
    help="Go on without images that cannot be decoded; the store's description names them.",
)
@options.plugins
@options.data_dir
def prepare(
    name: str,
    source: str | None,
    split: str,
    store: str,
    given: tuple[str, ...],
    download: bool,
    follow_links: bool,
    replace: bool,
    skip_damaged: bool,
    plugins: tuple[str, ...],
    data_dir: str | None,
) -> None:
    """Turn the images of dataset NAME into a class store.

    It is made once; runs read it from the data directory. Done again, it compares the contents of
    the source with what the store was made from: images that have changed are never passed over.
    """
    from data_pipeline import datasets, functions
    from data_pipeline.storage.typed_paths import typed_path
    from data_pipeline.store.class_store import build_store, store_root
    from data_pipeline.store.files import STORE_FILE
    from metadist.api import data_directory
    from metadist.plugins import use

    if source is not None and download:
        raise click.UsageError("--source and --download: the images come from one of them")
    click.get_current_context().with_resource(use(plugins))
    if name in functions.names():
        click.echo(f"{name} is a family of functions: it needs no preparation")
        return
    module = datasets.load(name)
    directory = data_directory(data_dir)
    root = store_root(directory, name, split, store)
    there = (root / STORE_FILE).is_file() and not replace
    place = None if source is None else typed_path(source)
    if download:
        place = _download(module, directory / name / "source")
    counter = _Counter(f"Preparing {name}")
    try:
        made = build_store(
            name,
            directory,
            source=place,
            split=split,
            name=store,
            options=_options(module, given),
            progress=counter.show,
            replace=replace,
            follow_links=follow_links,
            skip_damaged=skip_damaged,
        )
    finally:
        counter.close()
    _announce(made, "was there already" if there else "is prepared")


def _download(module: Dataset, target: Path) -> Path:

    spec = module.SPEC
    if spec.embedded:
        raise DataError(f"{spec.name} makes itself: there is nothing to download; drop --download")
    fetch: Callable[[Path], Path] | None = getattr(module, "download", None)
    if fetch is None:
        home = f" (its home: {spec.homepage})" if spec.homepage else ""
        raise DataError(
            f"{spec.name} cannot be downloaded by this program: get its images yourself{home} and "
            f"run 'metadist data prepare {spec.name} --source PATH'"
        )
    options.say(f"Fetching {spec.name} from {spec.homepage or 'its home'} into {target}")
    return fetch(target)


def _options(module: Dataset, given: tuple[str, ...]) -> dict[str, Option]:
    """``K=V`` strings as options; the type is that of the default."""
    from metadist.overrides import Typed, read_as

    usual = {**module.SPEC.options, **module.SPEC.source_options}
    parsed: dict[str, Option] = {}
    for text in given:
        key, equals, raw = text.partition("=")
        key, raw = key.strip(), raw.strip()
        if not equals or not key:
            raise DataError(f"--option needs key=value (as in size=84), got {text!r}")
        default = usual.get(key)
        value: Option = raw
        if isinstance(default, bool):
            value = read_as(Typed(raw), {bool})
            if not isinstance(value, bool):
                raise DataError(f"--option {key}: true or false is needed, got {raw!r}")
        elif isinstance(default, int):
            value = read_as(Typed(raw), {int})
            if not isinstance(value, int):
                raise DataError(f"--option {key}: a whole number is needed, got {raw!r}")
        parsed[key] = value
    return parsed


def _announce(store: ClassStore, what: str) -> None:
    from data_pipeline import datasets
    from data_pipeline.storage.object_uri import address_of

    images = sum(len(part.images) for part in store.parts.values())
    split = f", split {store.split}" if store.split else ""
    click.echo(f"{store.dataset}{split} {what} in {address_of(store.root)}")
    counts = ", ".join(
        f"{part} {len(held.class_names)} classes ({len(held.images)} images)"
        for part, held in store.parts.items()
    )
    click.echo(f"  {images} images of {shape_text(store.shape)}: {counts}")
    usual = datasets.load(store.dataset).SPEC.options
    if given := [f"{k}={v}" for k, v in store.options.items() if v != usual.get(k)]:
        click.echo(f"  options: {', '.join(given)}")
    for key, value in store.description.items():
        click.echo(f"  {key}: {value}")
    click.echo(f"  licence: {store.licence}")
    click.echo(f"  digest: {store.digest}")


@data.command()
@click.argument("recipe")
@click.option(
    "--set", "overrides", metavar="K=V", multiple=True, help="Override a key, as data.seed=1."
)
@click.option(
    "--count",
    type=options.Whole(min=1),
    metavar="N",
    help="Episodes. Default: as many as the run reads.",
)
@click.option(
    "--writers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes; the bytes do not depend on it. Default: one for each core.",
)
@click.option(
    "--payload",
    type=click.Choice(["auto", "inline", "index"]),
    default="auto",
    show_default=True,
    help="Images inside (inline) or looked up in the class store (index); auto: by their size.",
)
@click.option(
    "--shard-episodes",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    metavar="N",
    help="Episodes of one shard file, a multiple of 64.",
)
@click.option("--replace", is_flag=True, help="Write anew even if shards are there.")
@options.plugins
@options.data_dir
def shard(
    recipe: str,
    overrides: tuple[str, ...],
    count: int | None,
    writers: int | None,
    payload: Literal["auto", "inline", "index"],
    shard_episodes: int,
    replace: bool,
    plugins: tuple[str, ...],
    data_dir: str | None,
) -> None:
    """Write the training episodes of RECIPE as shards.

    RECIPE is the name of a built-in recipe or a TOML file. A run with data.storage = "shards"
    then reads them; it learns from the same episodes as without, bit for bit.
    """
    from data_pipeline.shards.writer import estimate, write_shards
    from data_pipeline.storage.object_uri import address_of
    from data_pipeline.storage.working_copies import pull, push
    from metadist.api import data_directory
    from metadist.compute.learners import of_its_dataset
    from metadist.driver.preflight import open_data
    from metadist.episode_data import shards_root
    from metadist.plugins import use
    from metadist.recipe.schema import load_recipe

    click.get_current_context().with_resource(use(plugins))
    parsed = of_its_dataset(load_recipe(recipe, overrides))
    section = parsed.data
    directory = data_directory(data_dir)
    opened = open_data(parsed, directory, options.say)
    read = parsed.outer.steps * parsed.outer.batch
    needed = read if section.episodes == "unlimited" else int(section.episodes)
    count = count or needed
    source = opened.live("train", section.queries, section.seed)
    chosen = _payload(payload, opened.store)
    root = shards_root(directory, parsed)
    shown = address_of(root)
    if not replace:
        pull(root)
    if root.exists() and not replace:
        _check_there(root, source, count, chosen if payload != "auto" else None, opened.store)
        push(root)  # goes on with what an interrupt may have left undone
    else:
        predicted = estimate(source, count, payload=chosen)
        options.say(
            f"{count} episodes of about {predicted.bytes_per_episode:,.0f} bytes, together about "
            f"{human_bytes(predicted.total_bytes)}, go to {shown}"
        )
        with click.progressbar(length=count, label="Writing", file=sys.stderr) as bar:

            def progress(done: int, total: int) -> None:
                bar.update(done - bar.pos)

            write_shards(
                source,
                count,
                root,
                payload=chosen,
                episodes_per_shard=shard_episodes,
                # Other processes do not know the plugins, and only functions need them here.
                writers=1 if plugins and opened.store is None else writers or available_cores(),
                progress=progress,
                replace=replace,
            )
        click.echo(f"{count} episodes ({chosen}) are in {shown}")
    if count < needed:
        options.say(f"The recipe as it stands needs {needed} episodes and will refuse these")
    settings = [part for text in (*overrides, "data.storage=shards") for part in ("--set", text)]
    options.say(f"Train from them: {shlex.join(['metadist', 'train', recipe, *settings])}")


def _payload(asked: Literal["auto", "inline", "index"], store: ClassStore | None) -> Payload:
    if asked != "auto":
        return asked
    return "inline" if store is None or max(store.shape[:2]) <= _INLINE_SIDE else "index"


def _check_there(
    root: Path, source: EpisodeSource, count: int, payload: Payload | None, store: ClassStore | None
) -> None:
    """See whether the shards that lie at ``root`` are those that are asked for.

    Raises:
        DataError: they are not.
    """
    from data_pipeline.episodes.sources import require_drawn
    from data_pipeline.shards.index import read_description
    from data_pipeline.shards.reader import open_shards
    from data_pipeline.storage.object_uri import address_of

    try:
        held = open_shards(root, source.identity, count, store)
        got = read_description(root)[0].payload
        if payload not in (None, got):
            raise DataError(f"{root}: payload {payload!r} is asked for, {got!r} is there")
        if store is None:
            require_drawn(held, held.length, source, f"the shards in {root}")
    except DataError as error:
        raise type(error)(f"{error}. To write these shards anew, add --replace") from None
    click.echo(f"{held.length} episodes ({got}) were in {address_of(root)} already")


class _Counter:
    """Counts images on a terminal's last line, and stays silent elsewhere."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._live = sys.stderr.isatty()
        self._shown = False

    def show(self, images: int, class_name: str) -> None:
        """Images written so far, and the class that comes next."""
        if self._live:
            line = f"{self._label}: {images} images, {class_name}"
            click.echo(f"\r{line:.79}\033[K", err=True, nl=False)
            self._shown = True

    def close(self) -> None:
        """Leave the line."""
        if self._shown:
            click.echo("\r\033[K", err=True, nl=False)


data.add_command(verify)
data.add_command(preview)
