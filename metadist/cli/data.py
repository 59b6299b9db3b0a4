"""``metadist data``: prepare, shard, check and look at data."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from data_pipeline.errors import DataError, MissingData
from metadist.cli import options
from metadist.cli.doctor import available_cores, human_bytes

if TYPE_CHECKING:
    from data_pipeline.class_store import ClassStore
    from data_pipeline.datasets import Dataset, Option
    from data_pipeline.episodes import EpisodeSource
    from data_pipeline.shards import Payload
    from data_pipeline.verify import Finding

#: Characters of a digest that are shown where it only has to be recognised.
_DIGEST = 12
#: Images up to this side are small enough to lie in every episode that uses them.
_INLINE_SIDE = 32


@click.group()
def data() -> None:
    """Prepare, shard, check and look at data."""


@data.command("list")
@options.data_dir
def list_data(data_dir: str | None) -> None:
    """List datasets, function families and what is prepared."""
    from data_pipeline import datasets, functions
    from metadist.api import data_directory

    click.echo("Image datasets")
    for name in datasets.names():
        spec = datasets.load(name).SPEC
        if spec.embedded:
            origin = "embedded: makes itself"
        else:
            origin = f"from {spec.homepage}" if spec.homepage else "from your own files"
        first, *rest = spec.splits
        splits = ", ".join([f"{first} (default)", *rest] if rest else [first])
        click.echo(f"  {name:16} {spec.summary}")
        click.echo(f"  {'':16} {_shape(spec.shape)}; splits: {splits}; {origin}")
        click.echo(f"  {'':16} licence: {spec.licence}")
        if spec.options:
            given = ", ".join(f"{key}={value}" for key, value in spec.options.items())
            click.echo(f"  {'':16} options: {given}")
    click.echo("Function families (embedded, need no preparation)")
    for name in functions.names():
        family = functions.load(name).SPEC
        click.echo(f"  {name:16} {family.summary}")
        click.echo(
            f"  {'':16} {family.inputs} -> {family.outputs} dimensions; "
            f"true parameters: {', '.join(family.latent)}"
        )
    root = data_directory(data_dir)
    held = list(_items(root))
    click.echo(f"Prepared in {root}{'' if held else ': nothing'}")
    for item in held:
        click.echo(f"  {_described(item, root)}")


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
@click.option("--replace", is_flag=True, help="Make it anew even if it is there.")
@options.data_dir
def prepare(
    name: str,
    source: str | None,
    split: str,
    store: str,
    given: tuple[str, ...],
    download: bool,
    replace: bool,
    data_dir: str | None,
) -> None:
    """Turn the images of dataset NAME into a class store.

    It is made once; runs read it from the data directory.
    """
    from data_pipeline import datasets, functions
    from data_pipeline._store_files import STORE_FILE
    from data_pipeline.class_store import build_store, store_root
    from metadist.api import data_directory

    if source is not None and download:
        raise click.UsageError("--source and --download: the images come from one of them")
    if name in functions.names():
        click.echo(f"{name} is a family of functions: it needs no preparation")
        return
    module = datasets.load(name)
    directory = data_directory(data_dir)
    root = store_root(directory, name, split, store)
    there = (root / STORE_FILE).is_file() and not replace
    place = None if source is None else Path(source)
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

    parsed: dict[str, Option] = {}
    for text in given:
        key, equals, raw = text.partition("=")
        key, raw = key.strip(), raw.strip()
        if not equals or not key:
            raise DataError(f"--option needs key=value (as in size=84), got {text!r}")
        default = module.SPEC.options.get(key)
        value: Option = raw
        if isinstance(default, bool):
            if raw not in ("true", "false"):
                raise DataError(f"--option {key}: true or false is needed, got {raw!r}")
            value = raw == "true"
        elif isinstance(default, int):
            try:
                value = int(raw)
            except ValueError:
                raise DataError(f"--option {key}: a whole number is needed, got {raw!r}") from None
        parsed[key] = value
    return parsed


def _announce(store: ClassStore, what: str) -> None:
    images = sum(len(part.images) for part in store.parts.values())
    split = f", split {store.split}" if store.split else ""
    click.echo(f"{store.dataset}{split} {what} in {store.root}")
    counts = ", ".join(
        f"{part} {len(held.class_names)} classes ({len(held.images)} images)"
        for part, held in store.parts.items()
    )
    click.echo(f"  {images} images of {_shape(store.shape)}: {counts}")
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
    type=click.IntRange(min=1),
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
@options.data_dir
def shard(
    recipe: str,
    overrides: tuple[str, ...],
    count: int | None,
    writers: int | None,
    payload: Literal["auto", "inline", "index"],
    shard_episodes: int,
    replace: bool,
    data_dir: str | None,
) -> None:
    """Write the training episodes of RECIPE as shards.

    RECIPE is the name of a built-in recipe or a TOML file. A run with data.storage = "shards"
    then reads them; it learns from the same episodes as without, bit for bit.
    """
    from data_pipeline.shard_writer import estimate, write_shards
    from metadist.api import data_directory
    from metadist.engine.data import open_data, shards_root
    from metadist.engine.data import prepare as prepare_data
    from metadist.recipe import load_recipe

    parsed = load_recipe(recipe, overrides)
    section = parsed.data
    directory = data_directory(data_dir)
    prepare_data(parsed, directory, options.say)
    opened = open_data(parsed, directory)
    read = parsed.outer.steps * parsed.outer.batch
    needed = read if section.episodes == "unlimited" else int(section.episodes)
    count = count or needed
    source = opened.live("train", section.queries, section.seed)
    chosen = _payload(payload, opened.store)
    root = shards_root(directory, parsed)
    if root.exists() and not replace:
        _check_there(root, source, count, chosen if payload != "auto" else None, opened.store)
    else:
        predicted = estimate(source, count, payload=chosen)
        options.say(
            f"{count} episodes of about {predicted.bytes_per_episode:,.0f} bytes, together about "
            f"{human_bytes(predicted.total_bytes)}, go to {root}"
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
                writers=writers or available_cores(),
                progress=progress,
                replace=replace,
            )
        click.echo(f"{count} episodes ({chosen}) are in {root}")
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
    from data_pipeline.shard_index import read_description
    from data_pipeline.shard_reader import open_shards

    try:
        held = open_shards(root, source.identity, count, store)
        got = read_description(root)[0].payload
        if payload not in (None, got):
            raise DataError(f"{root}: payload {payload!r} is asked for, {got!r} is there")
    except DataError as error:
        raise type(error)(f"{error}. To write these shards anew, add --replace") from None
    click.echo(f"{held.length} episodes ({got}) were in {root} already")


@data.command()
@click.argument("what", metavar="[PATH|NAME]", required=False)
@click.option(
    "--deep", is_flag=True, help="Look at each image and draw each episode again; takes longer."
)
@options.data_dir
def verify(what: str | None, deep: bool, data_dir: str | None) -> None:
    """Check that prepared data and shards are what was written.

    NAME is that of a store under the data directory or of a dataset; without it, everything
    there is checked. Every finding is listed; the exit code is 1 if there is one.
    """
    from metadist.api import data_directory

    root = data_directory(data_dir)
    folders = _folders(what, root)
    items = [item for folder in folders for item in _items(folder)]
    if not items:
        raise MissingData(
            f"{what or root}: no class store and no shards there; make some with "
            "'metadist data prepare', or name their directory with --data-dir"
        )
    damaged = 0
    for item in items:
        findings = _findings(item, deep)
        for finding in findings:
            click.echo(f"BAD  {finding}")
        if not findings:
            click.echo(f"OK   {_described(item, root)}")
        damaged += bool(findings)
    for left in sorted(path for folder in folders for path in folder.rglob(".partial-*")):
        click.echo(f"note {left}: of a writer that is at work or was interrupted; nobody reads it")
    if damaged:
        raise click.ClickException(
            f"{damaged} of {len(items)} are not as they were written: prepare or shard them anew "
            "with --replace"
        )


@data.command()
@click.argument("what", metavar="NAME_OR_PATH")
@click.option(
    "--part",
    type=click.Choice(["train", "val", "test"]),
    default="train",
    show_default=True,
    help="Which classes.",
)
@click.option("--out", metavar="FILE", help="Where the picture goes. Default: ./NAME-PART.png.")
@options.data_dir
def preview(
    what: str, part: Literal["train", "val", "test"], out: str | None, data_dir: str | None
) -> None:
    """Draw a contact sheet of a class store and print its statistics.

    NAME is that of a store under the data directory or of a dataset.
    """
    from data_pipeline.class_store import open_store
    from data_pipeline.preview import contact_sheet, nearest_neighbour_accuracy, statistics
    from metadist.api import data_directory

    store = open_store(_one_store(what, data_directory(data_dir)))
    path = Path(out or f"{store.root.parent.name}-{part}.png").absolute()
    try:
        contact_sheet(store, part, path)
    except OSError as error:
        raise click.ClickException(
            f"{path}: cannot be written ({error.strerror}); name another file with --out"
        ) from None
    figures = statistics(store)
    click.echo(f"{'':26}" + "".join(f"{name:>12}" for name in figures))
    for key in figures[part]:
        values = "".join(f"{held[key]:>12.6g}" for held in figures.values())
        click.echo(f"{key.replace('_', ' '):26}{values}")
    with contextlib.suppress(DataError):  # too few classes to tell five apart
        mean, half = nearest_neighbour_accuracy(store, part)
        click.echo(
            f"comparing raw pixels gets {100 * mean:.1f} ± {100 * half:.1f} % of 5-way 1-shot "
            f"{part} episodes right"
        )
    click.echo(str(path))


def _one_store(what: str, root: Path) -> Path:
    """The class store that NAME_OR_PATH means; embedded data are made if they are not there.

    Raises:
        DataError: none, or several.
    """
    from data_pipeline import datasets, functions
    from data_pipeline.class_store import build_store

    if what in functions.names():
        raise DataError(f"{what} is a family of functions: a preview needs images")
    try:
        folders = _folders(what, root)
    except MissingData:
        if what not in datasets.names() or not datasets.load(what).SPEC.embedded:
            raise
        options.say(f"Making {what} in {root}")
        return build_store(what, root).root
    found = [item.path for folder in folders for item in _items(folder) if item.kind == "store"]
    if not found:
        raise MissingData(f"{what}: no class store there; make one with 'metadist data prepare'")
    if len(found) > 1:
        raise DataError(
            f"{what}: one class store is needed, there are {', '.join(str(p) for p in found)}"
        )
    return found[0]


@dataclass(frozen=True)
class _Item:
    """A class store or a shard set.

    Attributes:
        path: its directory.
        store: the class store beside a shard set, if there is one.
    """

    kind: Literal["store", "shards"]
    path: Path
    store: Path | None = None


def _items(folder: Path) -> Iterator[_Item]:
    """Class stores and shard sets at or below a folder, also those that lack their description."""
    from data_pipeline._store_files import STORE_FILE
    from data_pipeline.shards import DATASET_FILE

    if (folder / STORE_FILE).is_file():
        yield _Item("store", folder)
        return
    if (folder / DATASET_FILE).is_file():
        beside = folder.parent.parent / "store"
        yield _Item("shards", folder, beside if beside.is_dir() else None)
        return
    for place in (folder, *_subfolders(folder)):
        store = place / "store" if (place / "store").is_dir() else None
        if store is not None:
            yield _Item("store", store)
        for shards in _subfolders(place / "shards"):
            yield _Item("shards", shards, store)


def _subfolders(folder: Path) -> list[Path]:
    """Sorted; what an interrupted writer left behind begins with a dot and does not count."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _folders(what: str | None, root: Path) -> list[Path]:
    """What a PATH or NAME means: a folder, or those of all splits of a dataset.

    Raises:
        MissingData: nothing of that name is there.
    """
    from data_pipeline import datasets
    from metadist.discovery import nearest

    if what is None:
        return [root]
    for folder in (root / what, Path(what)):
        if folder.is_dir():
            return [folder]
    names = [place.name for place in _subfolders(root)]
    if what in datasets.names():
        spec = datasets.load(what).SPEC
        splits = [f"{what}-{split}" for split in spec.splits]
        found = [root / name for name in splits if name in names]
        if found:
            return found
        source = "" if spec.embedded else " --source PATH"
        raise MissingData(
            f"{root}: no prepared {what!r} there; run 'metadist data prepare {what}{source}', or "
            "name the directory that has it with --data-dir"
        )
    raise MissingData(
        f"no {what!r} in {root} and no folder of that path; there are "
        f"{', '.join(names) or 'none'}.{nearest(what, names)}"
    )


def _findings(item: _Item, deep: bool) -> list[Finding]:
    from data_pipeline.class_store import open_store
    from data_pipeline.shard_index import read_description
    from data_pipeline.verify import Finding, verify_shards, verify_store

    findings: list[Finding] = []
    try:
        if item.kind == "store":
            return verify_store(item.path, deep)
        store = None
        if item.store is not None:
            # The store is an item of its own: what is wrong with its files is told there.
            with contextlib.suppress(DataError):
                store = open_store(item.store, verify=False)
        if store is not None:
            drawn_from = read_description(item.path)[0].identity.dataset_digest
            if drawn_from != store.digest:
                problem = (
                    f"drawn from a store with digest {drawn_from}, the one beside it has "
                    f"{store.digest}; shard it again"
                )
                findings, store = [Finding(item.path, problem)], None
        return findings + verify_shards(item.path, deep, store)
    except (DataError, OSError) as error:
        # Something of another version, gone or unreadable is a finding like any other.
        return [*findings, Finding(item.path, str(error).removeprefix(f"{item.path}: "))]


def _described(item: _Item, root: Path) -> str:
    """A class store or shard set in one line, from its description alone."""
    from data_pipeline._store_files import STORE_FILE
    from data_pipeline.shard_index import read_description
    from data_pipeline.storage import read_sealed_json

    place = str(item.path.relative_to(root) if item.path.is_relative_to(root) else item.path)
    try:
        if item.kind == "store":
            body = read_sealed_json(item.path / STORE_FILE)
            return (
                f"{place:42} {body['dataset']}, split {body['split']}, {_shape(body['shape'])}, "
                f"digest {body['digest'][:_DIGEST]}"
            )
        layout, shards, _ = read_description(item.path)
        return (
            f"{place:42} {sum(s.count for s in shards)} episodes of {layout.identity.dataset} "
            f"{layout.identity.dataset_digest[:_DIGEST]} ({layout.payload}), "
            f"{human_bytes(sum(s.size for s in shards))}"
        )
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return f"{place:42} damaged; see 'metadist data verify'"


def _shape(shape: tuple[int, int, int] | list[int]) -> str:
    height, width, channels = shape
    return f"{height}x{width} {'gray' if channels == 1 else 'RGB' if channels == 3 else channels}"


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
