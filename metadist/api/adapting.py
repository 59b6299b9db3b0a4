"""From the name of a run to images with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_pipeline.formats.labelled_images import read_queries, read_support
from data_pipeline.storage.typed_paths import typed_path
from metadist import plugins
from metadist.compute.device import Device, local_device
from metadist.errors import AdaptError, RunError
from metadist.evaluation.image_classifier import ImageClassifier
from metadist.evaluation.trained_run import TrainedRun
from metadist.report.adapted import check_directory, free_directory, write_adaptation
from metadist.runs.listing import open_run


def open_classifier(root: Path, run: str, data_dir: Path, device: Device) -> ImageClassifier:
    """The best checkpoint of a finished run. Its plugins must be in use.

    Args:
        root: directory of all runs.
        run: a name there, or a path.

    Raises:
        RunError: no such run, it is not finished, a plugin is missing, or it classifies no images.
        DataError: the run's data are missing or others.
    """
    directory = open_run(root, run)
    info = directory.info()
    if info["status"] != "finished":
        raise RunError(
            f"{directory.path}: a finished run is needed, this one is {info['status']!r}; let it "
            f"end, or go on with --resume {directory.name}"
        )
    section = directory.recipe().data
    if section.ways == 0:
        raise RunError(
            f"{directory.path}: a run that classifies images is needed, this one learned functions "
            f"({section.dataset})"
        )
    plugins.require(directory.path, info, warn=True)
    trained = TrainedRun.load(directory, data_dir, local_device(device))
    return ImageClassifier.of(trained.member(), info)


def adapt_run(
    classifier: ImageClassifier,
    support: Path,
    query: Path,
    out: str | Path | None,
    *,
    steps: int | None,
    invert: bool,
    skip_damaged: bool,
) -> dict[str, Any]:
    """Adapt to a folder of labelled images, label those of another, write what came of it.

    Raises:
        AdaptError: classes, steps or directory that do not fit.
        DataError: a folder or an image is missing, damaged or unsafe.
    """
    name = f"{classifier.facts['run']}-adapted"
    where = free_directory(Path.cwd(), name) if out is None else typed_path(out).resolve()
    check_directory(where)
    prepare = classifier.reading(invert)
    given = read_support(support, prepare, skip_damaged)
    asked = read_queries(query, prepare, skip_damaged)
    there = given.labels or ()
    unknown = sorted(set(asked.labels or ()) - set(there))
    if unknown:
        raise AdaptError(
            f"{query}: a folder of queries is named {unknown[0]!r}, which is no label of "
            f"{support} ({', '.join(sorted(set(there))[:10])}); name it as one of them, or put all "
            "queries side by side"
        )
    labels = classifier.label(given.pixels, there, asked.pixels, steps)
    record = write_adaptation(where, classifier, given, asked, labels)
    return {**record, "directory": str(where)}
