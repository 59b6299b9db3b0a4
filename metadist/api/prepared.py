"""What is prepared: checked, looked at, and grouped without labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metadist.api.common import Record
from metadist.driver.directories import data_directory
from metadist.process.announce import Announce, quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from data_pipeline.datasets import Part
    from data_pipeline.partitions.grouping import By
    from data_pipeline.partitions.partition import Progress
    from data_pipeline.prepared import Prepared
    from data_pipeline.store.class_store import ClassStore
    from metadist.compute.device import Device

#: What an embedding is judged by: episodes of unseen classes, as recipes' own are.
_WAYS, _SHOTS, _QUERIES, _EPISODES = 5, (1, 5), 5, 600


@dataclass(frozen=True)
class Checked:
    """A class store, partitions or a shard set that was looked at.

    Attributes:
        item: which.
        address: of the copy that was read, if that is in an object store; else empty.
        problems: everything that is wrong with it, a line each.
    """

    item: Prepared
    address: str
    problems: tuple[str, ...]


def verify(
    what: str | None = None,
    *,
    deep: bool = False,
    data_dir: str | Path | None = None,
    announce: Announce = quiet,
) -> Iterator[Checked]:
    """Check that prepared data and shards are what was written, one after another.

    Of a place in an object store, what is there is read first; if all of it is well, the working
    copy is brought up to date and checked too.

    Args:
        what: a name in the data directory, of a dataset, or a path; everything if not given.
        deep: look at each image and draw each episode again; takes longer.
        announce: is told of what interrupted writers have left behind.

    Raises:
        MissingData: nothing of that name is there.
        StoreError: an object store cannot be read, or is away.
    """
    from data_pipeline.errors import MissingData
    from data_pipeline.prepared import DESCRIPTIONS, find, folders, published
    from data_pipeline.storage.object_uri import address_of
    from data_pipeline.storage.working_copies import damaged_objects, pull

    root, bad = data_directory(data_dir), False
    for item in published(root):
        name = item.path.relative_to(root).parts[0]
        if what is not None and what != name and not name.startswith(f"{what}-"):
            continue
        problems = tuple(damaged_objects(item.path, DESCRIPTIONS[item.kind]))
        yield Checked(item, address_of(item.path), problems)
        bad = bad or bool(problems)
        if not problems:
            pull(item.path, DESCRIPTIONS[item.kind])
    if bad:
        return
    looked_at = folders(what, root)
    items = [item for folder in looked_at for item in find(folder)]
    if not items:
        raise MissingData(
            f"{what or root}: no class store and no shards there; make some with "
            "'metadist data prepare', or name their directory with --data-dir"
        )
    for item in items:
        yield Checked(item, "", tuple(map(str, item.findings(deep))))
    for left in sorted(path for folder in looked_at for path in folder.rglob(".partial-*")):
        announce(f"{left}: of a writer that is at work or was interrupted; nobody reads it")


def preview(
    what: str,
    *,
    part: Part = "train",
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    announce: Announce = quiet,
) -> Record:
    """Draw a contact sheet of a class store and compute its statistics.

    Args:
        what: a name in the data directory, of a dataset, or a path. Embedded data are made if they
            are not there.
        part: train, val or test: which classes are drawn.
        out: the PNG to write; ``./NAME-PART.png`` if not given.
        announce: is told, in a line each, what is happening.

    Returns:
        path; statistics (part -> figure -> value, see
        :func:`data_pipeline.store.preview.statistics`); nearest_neighbour: mean and 95 % half-width
        of the accuracy of comparing raw pixels in 5-way 1-shot episodes of the part, None if it
        has too few classes.

    Raises:
        DataError: no such store, several, or a damaged one; or ``out`` cannot be written.
    """
    from data_pipeline.errors import DataError
    from data_pipeline.storage.typed_paths import typed_path
    from data_pipeline.store.class_store import open_store
    from data_pipeline.store.preview import contact_sheet, nearest_neighbour_accuracy, statistics

    store = open_store(one_store(what, data_directory(data_dir), announce))
    path = typed_path(out or f"{store.root.parent.name}-{part}.png").absolute()
    try:
        contact_sheet(store, part, path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); name another file with --out"
        ) from None
    try:
        nearest = nearest_neighbour_accuracy(store, part)
    except DataError:  # too few classes to tell five apart
        nearest = None
    return {"path": path, "statistics": statistics(store), "nearest_neighbour": nearest}


def one_store(what: str, root: Path, announce: Announce) -> Path:
    """The class store that a name or path means; raises DataError if it is not one."""
    from data_pipeline import datasets, functions
    from data_pipeline.errors import DataError, MissingData
    from data_pipeline.prepared import find, folders
    from data_pipeline.store.build import build_store

    if what in functions.names():
        raise DataError(f"{what} is a family of functions: a preview needs images")
    try:
        looked_at = folders(what, root)
    except MissingData:
        if what not in datasets.names() or not datasets.load(what).SPEC.embedded:
            raise
        announce(f"Making {what} in {root}")
        return build_store(what, root).root
    found = [item.path for folder in looked_at for item in find(folder) if item.kind == "store"]
    if not found:
        raise MissingData(f"{what}: no class store there; make one with 'metadist data prepare'")
    if len(found) > 1:
        raise DataError(
            f"{what}: one class store is needed, there are {', '.join(map(str, found))}"
        )
    return found[0]


def embed(
    what: str,
    *,
    out: str | Path | None = None,
    interpolation: bool = False,
    latent: int = 16,
    width: int = 32,
    steps: int = 2000,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    device: Device = "auto",
    data_dir: str | Path | None = None,
    announce: Announce = quiet,
    progress: Callable[[int, int], None] | None = None,
) -> Record:
    """Train an auto-encoder on the training images of a class store and embed all of its images.

    Labels are not looked at. The same store and settings give the same bytes on the same machine.

    Args:
        what: a name in the data directory, of a dataset, or a path. Embedded data are made if they
            are not there.
        out: the Parquet file to write; ``./NAME-autoencoder.parquet`` if not given.
        interpolation: train for realistic interpolations too (Berthelot et al., "Understanding and
            Improving Interpolation in Autoencoders via an Adversarial Regularizer", ICLR 2019).
        latent: channels of the embedding, which has about 4 x 4 places.
        width: channels of the first convolution.
        steps: updates.
        batch: images of an update.
        lr: Adam's learning rate.
        seed: of initialisation and batches.
        device: auto, cpu or cuda.
        announce: is told, in a line each, what is happening.
        progress: called with (updates done, ``steps``).

    Returns:
        path; dimensions; loss: mean squared error of the last tenth of the updates, of pixels in
        [-1, 1].

    Raises:
        DataError: no such store, several, or a damaged one; or ``out`` cannot be written.
        ResourceError: a device that is not there.
        NumericsError: the loss is not finite.
    """
    import numpy as np

    from data_pipeline.datasets import PARTS
    from data_pipeline.errors import DataError
    from data_pipeline.partitions.embedding import keys, write_embedding
    from data_pipeline.storage.typed_paths import typed_path
    from data_pipeline.store.class_store import open_store
    from metadist.autoencoder.training import Settings, encoded, train
    from metadist.compute.device import local_device

    settings = Settings(interpolation, latent, width, steps, batch, lr, seed)
    store = open_store(one_store(what, data_directory(data_dir), announce))
    path = typed_path(out or f"{store.root.parent.name}-autoencoder.parquet").absolute()
    place = local_device(device)
    network, loss = train(store.parts["train"].images, settings, place, progress)
    vectors = np.concatenate([encoded(network, store.parts[part].images, place) for part in PARTS])
    try:
        write_embedding(path, [key for part in PARTS for key in keys(store, part)], vectors)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); name another file with --out"
        ) from None
    return {"path": path, "dimensions": vectors.shape[1], "loss": loss}


def cluster(
    what: str,
    *,
    embedding: str | Path | None = None,
    by: By = "kmeans",
    clusters: int = 500,
    partitions: int = 1,
    smallest: int = 6,
    ways: int = 20,
    margin: float = 0.0,
    starts: int | None = None,
    seed: int = 0,
    name: str = "",
    replace: bool = False,
    data_dir: str | Path | None = None,
    announce: Announce = quiet,
    progress: Progress | None = None,
) -> Record:
    """Group the training images of a class store; clusters then stand for classes in training.

    A recipe with ``data.partition = NAME`` learns from them (Hsu, Levine & Finn, "Unsupervised
    Learning via Meta-Learning", ICLR 2019). Labels are not looked at, unless they are asked for.

    Args:
        what: a name in the data directory, of a dataset, or a path. Embedded data are made if they
            are not there.
        embedding: a Parquet file (``key``, and a column of numbers for each dimension), such as
            :func:`embed` writes; pixels if not given.
        by: ``kmeans``; ``hyperplanes``; ``classes``, the true ones, for comparison; or ``random``,
            which says nothing.
        clusters: of a partition, by k-means or at random, before small ones are dropped.
        partitions: how many; each task is of one of them.
        smallest: images that a task takes of a class (shots, queries and unlabeled ones).
        ways: classes of a task, for hyperplanes.
        margin: distance to each hyperplane, in standard deviations of the embedding.
        starts: of k-means; 10 for one partition and 1 for several if not given.
        seed: of all random choices.
        name: of the partitions; that of the way of grouping if empty.
        replace: in the place of partitions of that name.
        announce: is told, in a line each, what is happening.
        progress: called with (partitions made, ``partitions``).

    Returns:
        name; directory; digest; partitions, clusters and images that there are; nearest_neighbour:
        by number of shots the mean and 95 % half-width of the accuracy of comparing vectors in
        5-way test episodes, empty if the file has no vectors of test images.

    Raises:
        DataError: no such store or embedding, clusters that cannot be found, or partitions of that
            name are there.
    """
    from data_pipeline.partitions.grouping import EMBEDDED, Grouping
    from data_pipeline.partitions.layout import partitions_root, write_partitions
    from data_pipeline.storage.object_uri import address_of
    from data_pipeline.store.class_store import open_store

    grouping = Grouping(by, clusters, partitions, smallest, ways, margin, starts, seed)
    store = open_store(one_store(what, data_directory(data_dir), announce))
    root = partitions_root(store.root, name or by)
    made, train, test = grouping.described(), None, None
    if by in EMBEDDED:
        train, test, facts = _vectors(store, embedding)
        made |= facts
    found = list(grouping.found(store, train, progress))
    result = write_partitions(root, store, found, made, replace=replace)
    return {
        "name": root.name,
        "directory": address_of(root),
        "digest": result.digest,
        "partitions": len(found),
        "clusters": result.clusters,
        "images": sum(len(partition.rows) for partition in found),
        "nearest_neighbour": {} if test is None else _judged(store, test),
    }


def _vectors(
    store: ClassStore, embedding: str | Path | None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, dict[str, str]]:
    """The vectors of training and test images, and where they come from."""
    from importlib.metadata import version

    from data_pipeline.errors import DataError
    from data_pipeline.partitions.embedding import pixels, read_embedding
    from data_pipeline.storage import local
    from data_pipeline.storage.typed_paths import typed_path

    facts = {"scikit-learn": version("scikit-learn"), "numpy": version("numpy")}
    if embedding is None:
        return pixels(store, "train"), pixels(store, "test"), {"embedding": "pixels", **facts}
    path = typed_path(embedding)
    vectors = read_embedding(path, store, ["train"])["train"]
    facts |= {"embedding": path.name, "embedding_sha256": local.sha256_file(path)}
    try:
        return vectors, read_embedding(path, store, ["test"])["test"], facts
    except DataError:  # it need not have them
        return vectors, None, facts


def _judged(store: ClassStore, test: NDArray[np.float32]) -> dict[int, tuple[float, float]]:
    """By number of shots, mean and 95 % half-width of comparing vectors in test episodes."""
    from data_pipeline.episodes.images import ImageEpisodes
    from data_pipeline.episodes.neighbours import nearest_neighbour_scores
    from data_pipeline.episodes.types import EpisodeSpec
    from data_pipeline.errors import TooFew

    found = {}
    for shots in _SHOTS:
        with contextlib.suppress(TooFew):
            source = ImageEpisodes(store, "test", EpisodeSpec(_WAYS, shots, _QUERIES), 0)
            scores = nearest_neighbour_scores(source, test, _EPISODES)
            half = 1.96 * scores.std() / len(scores) ** 0.5
            found[shots] = (float(scores.mean()), float(half))
    return found
