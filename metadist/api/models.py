"""Trained learners at work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metadist.api.common import Plugins, Record
from metadist.api.result_types import AdaptResult, Score
from metadist.driver.directories import data_directory, runs_directory

if TYPE_CHECKING:
    from metadist.compute.device import Device
    from metadist.evaluation.inference.trained_model import TrainedModel


def load(
    run: str | Path,
    *,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: Device = "auto",
    plugins: Plugins = (),
) -> TrainedModel:
    """A trained learner in memory, which adapts to examples and predicts for others.

        model = metadist.load("first")
        fitted = model.adapt(images, labels)
        print(fitted.predict(others).labels)

    No folders of images, no MLflow and no Ray are needed. See docs/python.md.

    Args:
        run: a finished run, by name or path, whose best checkpoint is taken; a folder that
            ``model.save`` has written; or the folder of a registered model.
        data_dir: of prepared data; needed for runs alone that were made before runs noted how they
            read examples.
        device: where it computes; ``auto`` takes a GPU where there is one.
        plugins: those that the run was made with; see :func:`train`.

    Returns:
        The model; ``print`` says what it is.

    Raises:
        RunError: no such run or folder, the run is not finished, or a plugin of it is missing.
        DamagedCheckpoint: a file is not what was written.
    """
    from metadist import plugins as outside
    from metadist.api.adapting import open_model

    with outside.use(plugins) as used:
        root, data = runs_directory(runs_dir), data_directory(data_dir)
        return open_model(root, str(run), data, device, used)


def adapt(
    run: str,
    *,
    support: str | Path,
    query: str | Path,
    unlabeled: str | Path | None = None,
    out: str | Path | None = None,
    steps: int | None = None,
    invert: bool = False,
    follow_links: bool = False,
    skip_damaged: bool = False,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: Device = "auto",
    plugins: Plugins = (),
) -> AdaptResult:
    """Adapt a finished run's best checkpoint to labelled images, and label others.

    Images are read as those of the run's dataset were. Equal calls give equal predictions.

    Args:
        support: a folder with a folder of images for each class, named as its label.
        query: a folder of images; or of folders named as labels, then accuracy is counted.
        unlabeled: a folder of images without labels, for a learner that learns from such.
        out: directory of the results, new or empty; ``<run>-adapted`` under the current
            directory, or the first of ``<run>-adapted-2`` … that is free, if not given.
        steps: adaptation steps; as trained if not given.
        invert: exchange light and dark, for images whose ink is the other way round.
        follow_links: let links lead out of ``support`` and ``query``.
        skip_damaged: go on without images that cannot be decoded.
        plugins: those that the run was made with; see :func:`train`.

    Returns:
        An :class:`AdaptResult`. Its items: run, checkpoint, recipe_hash, dataset, algorithm, norm,
        steps, labels (with their numbers of support images), queries, passed_over (files that are
        no images, or were skipped), notes, directory; with unlabeled images their number; with true
        labels right and accuracy.

    Raises:
        AdaptError: another number of classes than the learner tells apart, or ``out`` is taken.
        RunError: no such run, it is not finished, or it classifies no images.
        DataError: a folder or an image is missing, damaged or unsafe.
    """
    from data_pipeline.storage.local import links_followed
    from data_pipeline.storage.typed_paths import typed_path
    from metadist.api.adapting import adapt_run, check_labels_images
    from metadist.objectives import ACCURACY

    model = load(run, data_dir=data_dir, runs_dir=runs_dir, device=device, plugins=plugins)
    model = check_labels_images(model)
    folders = typed_path(support), typed_path(query)
    more = None if unlabeled is None else typed_path(unlabeled)
    with links_followed(follow_links):
        record = adapt_run(
            model.inverted() if invert else model,
            *folders,
            out,
            unlabeled=more,
            steps=steps,
            skip_damaged=skip_damaged,
        )
    return AdaptResult.of(
        record,
        directory=Path(record["directory"]),
        score=Score.read(ACCURACY, record) if "right" in record else None,
        notes=tuple(record["notes"]),
    )


def register(
    run: str,
    *,
    name: str | None = None,
    tracking_uri: str | None = None,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    plugins: Plugins = (),
) -> Record:
    """Put a finished run's best checkpoint into MLflow's model registry, as a model that adapts.

    The model is a folder of its own, without pickles: it needs neither run nor dataset. What it
    takes and answers: docs/using-a-trained-model.md.

    Args:
        name: of the registered model; made from data, ways, shots and algorithm if not given.
            Each call adds a version.
        tracking_uri: of the store that has the run; the one it was made with if not given.
        plugins: those that the run was made with; see :func:`train`.

    Returns:
        model, version, uri (``models:/NAME/VERSION``), run, mlflow_run, tracking_uri.

    Raises:
        RunError: no such run, it is not finished, or was made with code that is not installed,
            which a model cannot carry.
        TrackingError: the run is not in MLflow, or the store refuses.
    """
    from metadist import plugins as outside
    from metadist.api.adapting import open_model
    from metadist.runs.listing import open_run
    from metadist.track.registry import register_run

    root, data = runs_directory(runs_dir), data_directory(data_dir)
    with outside.use(plugins) as used:
        return register_run(
            open_run(root, run),
            lambda: open_model(root, run, data, "cpu", used),
            name=name,
            uri=tracking_uri,
        )
