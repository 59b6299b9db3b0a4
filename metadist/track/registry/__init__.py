"""A trained learner as a model of MLflow's registry.

The model is logged by the client of the store that has the run: the run is neither opened again nor
ended, and no setting of the process is touched.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.errors import RunError, TrackingError
from metadist.evaluation.inference.finished_run import plugins_of
from metadist.evaluation.inference.task_facts import KEY
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.recipe.schema import Recipe
from metadist.runs.run_dir import RunDir
from metadist.track.client import connect, explained, impatient, settings
from metadist.track.ownership import foreign
from metadist.track.registry.request import Form, example, signature
from metadist.track.upload import sync_run
from metadist.track.uris import is_server, public_uri, store_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

#: What the model needs to be installed, beside what these need themselves.
_PACKAGES = ("metadist", "mlflow", "numpy", "pandas", "pillow", "safetensors", "torch")
_NAME = re.compile(r"[^\s/:][^/:]{0,249}")


@settings()
def register_run(
    run: RunDir,
    open_model: Callable[[], TrainedModel],
    *,
    name: str | None = None,
    uri: str | None = None,
) -> dict[str, Any]:
    """Log a run's learner to its MLflow run and register it as a new version.

    Args:
        open_model: loads the learner, which takes a while; called once all else is in order.
        name: of the registered model; :func:`default_name` if None.
        uri: of the store; see :func:`metadist.track.uris.store_of` if None.

    Returns:
        model, version, uri, run, mlflow_run, tracking_uri.

    Raises:
        RunError: the learner needs code that is not installed, or the model made of it is none.
        OSError: the model cannot be written on this machine.
        TrackingError: the run is not in the store, or the store does not answer or refuses.
    """
    info = run.info()
    requirements = pip_requirements(run, info)
    chosen = check_name(default_name(run.recipe()) if name is None else name)
    known: dict[str, Any] = info.get("mlflow") or {}
    if not known:
        raise TrackingError(
            f"{run.path}: it was trained without MLflow (--offline), so no run there can hold its "
            f"model; send it first: metadist sync {shlex.quote(str(run.path))} "
            "--tracking-uri URI"
        )
    address = store_of(str(known["tracking_uri"]), uri, run.path.parent.parent, run.path)
    run_id = str(known["run_id"])
    with impatient():
        client = connect(address)
        copied = foreign(client, run, run_id)
    if copied:
        run_id = sync_run(run, uri=address)
    model = open_model()
    with tempfile.TemporaryDirectory(prefix="metadist-model-") as folder:
        number = _register(client, address, run_id, Path(folder), model, chosen, requirements)
    return {
        "model": chosen,
        "version": number,
        "uri": f"models:/{chosen}/{number}",
        "run": run.name,
        "mlflow_run": run_id,
        "tracking_uri": public_uri(address),
    }


def default_name(recipe: Recipe) -> str:
    """Equal for runs that learn the same thing the same way: they are versions of one model."""
    data = recipe.data.store or recipe.data.dataset
    ways = f"{recipe.data.ways}w" if recipe.data.ways else ""
    return f"{data}-{ways}{recipe.data.shots}s-{recipe.algorithm.name}"


def check_name(name: str) -> str:
    """A name that the registry takes and that a ``models:/`` address can hold.

    Raises:
        TrackingError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise TrackingError(
            f"--name {name!r}: 1 to 250 characters without '/' and ':' are needed for a model"
        )
    return name


def pip_requirements(run: RunDir, info: dict[str, Any]) -> list[str]:
    """The packages that the model needs, in the versions that are used here.

    Raises:
        RunError: a part of the learner comes from a file or module that nobody can install.
    """
    lines = [f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES]
    # Examples are read as config.json says, without what the data were made with.
    for kind, made in plugins_of({KEY: None, **info}).items():
        if "distribution" not in made:
            raise RunError(
                f"{run.path}: its {kind} {made['name']!r} is code of "
                f"{made.get('path') or made.get('module')}, which a model cannot carry; install it "
                "as a distribution that announces it (entry point metadist.parts) and train with "
                "that"
            )
        lines.append("==".join(str(made["distribution"]).split(" ", 1)))
    return lines


def _register(
    client: MlflowClient,
    address: str,
    run_id: str,
    folder: Path,
    model: TrainedModel,
    name: str,
    requirements: list[str],
) -> int:
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    tags = model_tags(model)
    with explained(address):
        experiment = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment, name, run_id, tags)
    try:
        about = Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=run_id,
            model_id=logged.model_id,
        )
        save_model(folder / "model", model, requirements, about)
        with explained(address):
            client.log_model_artifacts(logged.model_id, str(folder / "model"))
            client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    except BaseException:
        # A model without its files must not look as if it could be loaded.
        with contextlib.suppress(Exception):
            client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    # Given a model's id, a local store looks it up in the process's default store, which need not
    # be this one; a server looks in its own.
    served = is_server(client.tracking_uri)
    source = f"models:/{logged.model_id}" if served else logged.artifact_location
    tags = {**tags, "model_id": logged.model_id}
    with explained(address):
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(name, source, run_id, tags, model_id=logged.model_id)
    return int(made.version)


def model_tags(model: TrainedModel) -> dict[str, str]:
    """Where a model comes from and how good it was on test episodes."""
    facts, recipe = model.facts, model.trained.recipe
    source = ("run", "recipe_hash", "dataset", "dataset_digest", "licence")
    figures = (model.metric.name, "ci95", "classes", "ci95_classes")
    given = {
        **{name: facts.get(name) for name in source + figures},
        "algorithm": recipe.algorithm.name,
        "norm": recipe.model.norm,
        "params_sha256": facts["checkpoint"]["params_sha256"],
    }
    return {key: str(value) for key, value in given.items() if value is not None}


def save_model(path: Path, model: TrainedModel, requirements: list[str], about: Any = None) -> None:
    """Write a learner as a folder that ``mlflow.pyfunc.load_model`` loads, and try it.

    Args:
        path: a folder that is not there yet.
        requirements: what has to be installed.
        about: MLflow's record of the model, if it has one.

    Raises:
        RunError: it loads, and does not answer.
    """
    import mlflow

    with tempfile.TemporaryDirectory(prefix="metadist-learner-") as parts, _quiet():
        learner = model.save(Path(parts) / "learner")
        mlflow.pyfunc.save_model(
            path=str(path),
            mlflow_model=about,
            python_model=str(Path(__file__).parent.with_name("served.py")),
            artifacts={"learner": str(learner)},
            signature=signature(Form(model)),
            input_example=example(Form(model)),
            pip_requirements=requirements,
        )
    try:
        mlflow.pyfunc.load_model(str(path)).predict(example(Form(model)))
    except mlflow.MlflowException as error:
        raise RunError(
            f"{model.facts['run']}: the model made of it does not answer its own example, and "
            f"is not registered: {error.message}"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow tells at INFO what it checks and saves; a stranger cannot use that."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
