"""From the name of a run, or a folder, to a model in memory; and from that to labels of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_pipeline.formats.labelled_images import read_queries, read_support
from data_pipeline.storage.object_uri import is_uri
from data_pipeline.storage.typed_paths import typed_path
from metadist import plugins
from metadist.compute.device import Device, local_device
from metadist.errors import AdaptError, RunError
from metadist.evaluation.inference import saved_model
from metadist.evaluation.inference.finished_run import check_finished, open_finished, plugins_of
from metadist.evaluation.inference.inputs import ImageInputs
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.plugins import Plugin
from metadist.report.adaptation import check_directory, free_directory, write_adaptation
from metadist.runs.listing import open_run


def open_model(
    root: Path,
    name: str,
    data_dir: Path,
    device: Device,
    used: tuple[Plugin, ...] = (),
) -> TrainedModel:
    """A model that was saved, or the best checkpoint of a finished run.

    Args:
        root: directory of all runs.
        name: of a run there, or a path.
        used: plugins that are in use now, and will be when the model builds a learner later.

    Raises:
        RunError: no such run, it is not finished, or a plugin is missing.
        DamagedCheckpoint: a saved model is not what was written.
    """
    parts = plugins.kept(used)
    folder = None if is_uri(name) else saved_model.find(typed_path(name))
    if folder is not None and not (root / name / "run.json").is_file():
        saved = saved_model.SavedModel.read(folder)
        plugins.require(folder, {"plugins": saved.plugins}, warn=True)
        return TrainedModel.of_saved(saved, local_device(device), parts)
    run = open_run(root, name)
    plugins.require(run.path, {"plugins": plugins_of(check_finished(run))}, warn=True)
    return open_finished(run, data_dir, local_device(device), parts)


def check_labels_images(model: TrainedModel) -> TrainedModel:
    """The model, if it labels images.

    Raises:
        RunError: it does not.
    """
    if model.ways and isinstance(model.inputs, ImageInputs):
        return model
    learned = "functions" if not model.ways else "inputs that are no images"
    raise RunError(
        f"{model.facts['run']}: a run that classifies images is needed, this one learned {learned} "
        f"({model.facts['dataset']}); metadist.load adapts it in Python"
    )


def adapt_run(
    model: TrainedModel,
    support: Path,
    query: Path,
    out: str | Path | None,
    *,
    unlabeled: Path | None = None,
    steps: int | None,
    skip_damaged: bool,
) -> dict[str, Any]:
    """Adapt to a folder of labelled images, label those of another, write what came of it.

    Args:
        unlabeled: a folder of further images, for a learner that learns from such.

    Raises:
        AdaptError: classes, steps or directory that do not fit.
        DataError: a folder or an image is missing, damaged or unsafe.
    """
    where = (
        free_directory(Path.cwd(), f"{model.facts['run']}-adapted")
        if out is None
        else typed_path(out).resolve()
    )
    check_directory(where)
    prepare = model.tasks.preparation
    assert prepare is not None
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
    more = None if unlabeled is None else read_queries(unlabeled, prepare, skip_damaged)
    pixels = None if more is None else more.pixels
    fitted = model.adapt_prepared(given.pixels, there, unlabeled=pixels, steps=steps)
    predictions = fitted.predict_prepared(asked.pixels)
    record = write_adaptation(where, model, given, asked, fitted, predictions, more)
    return {**record, "directory": str(where)}
