"""A trained learner as a model of MLflow's registry: what is in its folder and what it answers."""

from __future__ import annotations

import base64
import csv
import errno
import io
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import Mock

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from own_images import export, request
from PIL import Image
from tracked import begin

import metadist
from metadist.api.adapting import open_model
from metadist.cli.main import main
from metadist.errors import AdaptError, RunError, TrackingError
from metadist.runs.run_dir import RunDir
from metadist.track.client import connect
from metadist.track.registry import check_name, pip_requirements, register_run
from metadist.track.registry import request as request_module
from metadist.track.registry.request import Form, example


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    """Run ``maml`` in MLflow and registered once; ``lines`` on functions."""
    root = tmp_path_factory.mktemp("place")
    (root / "mlflow.db").write_bytes(template.read_bytes())
    image_data(root)
    run = ended_run(root, "maml", IMAGES, "eval.episodes=2", "eval.extra_queries=0")
    run.update(mlflow={"tracking_uri": store(root), "run_id": begin(run, store(root))})
    ended_run(root, "lines", FUNCTIONS)
    register(root)
    return root


def store(root: Path) -> str:
    return f"sqlite:///{root}/mlflow.db"


def register(place: Path, run: str = "maml", **more: Any) -> dict[str, Any]:
    places = {"runs_dir": place / "runs", "data_dir": place / "data"}
    return metadist.register(run, **(places | more))


def folder(place: Path) -> Path:
    """The model's files."""
    version = connect(store(place)).get_model_version("image_folder-3w1s-maml", "1")
    model_id = version.tags["model_id"]
    (found,) = (p for p in (place / "mlruns").rglob("MLmodel") if model_id in str(p))
    return found.parent


@pytest.fixture
def model(place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The registered model, loaded where nothing can be unpickled."""
    import mlflow

    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise AssertionError("unpickled")

    for module in (pickle, cloudpickle, torch):
        monkeypatch.setattr(module, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return mlflow.pyfunc.load_model(str(folder(place)))


@pytest.fixture
def folders(place: Path, tmp_path: Path) -> tuple[Path, Path]:
    from metadist.episode_data import open_data

    recipe = RunDir(place / "runs" / "maml").recipe()
    source = open_data(recipe, place / "data").live("test", 2, 0, 2)
    return export(source.episodes([0]), tmp_path)


@pytest.fixture
def rows(folders: tuple[Path, Path]) -> list[dict[str, Any]]:
    return [*request(*folders)]


def test_the_registry_has_a_version_with_its_origin(place):
    client = connect(store(place))
    info = RunDir(place / "runs" / "maml").info()
    version = client.get_model_version("image_folder-3w1s-maml", "1")
    assert version.run_id == info["mlflow"]["run_id"]
    assert version.status == "READY"
    assert version.tags["run"] == "maml"
    assert version.tags["recipe_hash"] == info["recipe_hash"]
    assert version.tags["dataset_digest"] == info["dataset"]["digest"]
    assert float(version.tags["accuracy"]) == info["result"]["accuracy"]
    assert int(version.tags["classes"]) == info["result"]["classes"]
    run = client.get_run(info["mlflow"]["run_id"])
    assert run.info.status == "RUNNING"  # as it was: registering neither opens nor ends it
    assert run.outputs is not None
    assert [m.model_id for m in run.outputs.model_outputs] == [version.tags["model_id"]]


def test_the_folder_is_self_contained_and_without_pickles(place):
    names = {p.relative_to(folder(place)).as_posix() for p in folder(place).rglob("*.*")}
    assert {p for p in names if "artifacts" in p} == {
        "artifacts/learner/config.json",
        "artifacts/learner/recipe.toml",
        "artifacts/learner/weights.safetensors",
    }
    assert not [p for p in names if p.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin"))]
    for path in folder(place).rglob("*"):
        if path.is_file():
            # The first bytes of a pickle of any protocol since 2, and of a zip file that holds one.
            head = path.read_bytes()[:2]
            assert head[:1] != b"\x80", path
            assert head != b"PK", path
    requirements = (folder(place) / "requirements.txt").read_text().split()
    assert f"metadist=={metadist.__version__}" in requirements
    assert all("==" in line and "+" not in line for line in requirements)


def test_its_answer_is_that_of_adapt(place, tmp_path, folders, rows, model):
    places = {"runs_dir": place / "runs", "data_dir": place / "data"}
    for steps in (None, 3):
        out = tmp_path / f"out-{steps}"
        metadist.adapt("maml", support=folders[0], query=folders[1], steps=steps, out=out, **places)
        params = {} if steps is None else {"steps": steps}
        answer = model.predict(pd.DataFrame(rows), params=params)
        with (out / "predictions.csv").open(newline="") as handle:
            table = list(csv.DictReader(handle))
        assert [row["label"] for row in table] == list(answer["label"])
        for row, probabilities in zip(table, answer["probabilities"], strict=True):
            assert probabilities == {n: float(row[f"p({n})"]) for n in ("way0", "way1", "way2")}


def test_rows_may_come_in_any_order_and_labels_of_queries_be_missing(rows, model):
    expected = model.predict(pd.DataFrame(rows))
    for row in rows:
        row["label"] = row["label"] or None
    support, queries = rows[:6], rows[6:]
    mixed = [*queries[:2], *support[4:], *support[:2], *queries[2:], *support[2:4]]
    answer = model.predict(pd.DataFrame(mixed))
    assert list(answer["label"]) == list(expected["label"])
    assert list(answer["probabilities"]) == list(expected["probabilities"])


def test_inverted_images(rows, model):
    expected = model.predict(pd.DataFrame(rows))
    for row in rows:
        image = Image.open(io.BytesIO(base64.b64decode(row["image"])))
        buffer = io.BytesIO()
        Image.fromarray(255 - np.asarray(image)).save(buffer, "PNG")
        row["image"] = base64.b64encode(buffer.getvalue()).decode()
    answer = model.predict(pd.DataFrame(rows), params={"invert": True})
    assert list(answer["probabilities"]) == list(expected["probabilities"])


def _role(rows):
    rows[3]["role"] = "suport"


def _label(rows):
    rows[7]["label"] = "way1"


def _no_label(rows):
    rows[2]["label"] = ""


def _base64(rows):
    rows[4]["image"] = "not base64!"


def _empty(rows):
    rows[4]["image"] = ""


def _no_image(rows):
    rows[4]["image"] = base64.b64encode(b"hello").decode()


def _no_support(rows):
    del rows[:6]


def _no_query(rows):
    del rows[6:]


def _too_few(rows):
    del rows[4:6]


def _too_many(rows):
    rows[0]["label"] = "another"


def _cut(rows):
    rows[4]["image"] = base64.b64encode(base64.b64decode(rows[4]["image"])[:-30]).decode()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_role, "row 4: role: 'support' or 'query' is needed, got 'suport'"),
        (_label, "row 8: a query has the label 'way1'; leave it empty"),
        (_no_label, "row 3: a support image needs a label"),
        (_base64, "row 5: image: not base64"),
        (_empty, "row 5: image: empty"),
        (_no_image, "row 5: not an image"),
        (_cut, "row 5: damaged PNG image"),
        (_no_support, "no support image"),
        (_no_query, "no query image"),
        (_too_few, "give 3 classes, got 2"),
        (_too_many, "give 3 classes, got 4"),
    ],
)
def test_bad_requests_are_the_askers_fault_and_say_why(rows, model, spoil, words):
    from mlflow.exceptions import MlflowException

    spoil(rows)
    with pytest.raises(MlflowException) as caught:
        model.predict(pd.DataFrame(rows, columns=["role", "label", "image"]))
    assert words in str(caught.value)
    assert caught.value.get_http_status_code() == 400


def test_the_example_works_and_shows_nobodys_images(place, model):
    example = json.loads((folder(place) / "serving_input_example.json").read_text())
    table = pd.DataFrame(**example["dataframe_split"])
    answer = model.predict(table)
    assert len(answer) == 3
    assert {len(p) for p in answer["probabilities"]} == {3}


@pytest.mark.parametrize("kind", ["dataset", "function", "episode_source"])
@pytest.mark.parametrize("told", [{}, {"tasks": None}])
def test_what_data_were_made_with_is_not_needed(place, kind, told):
    made = {"name": "mine", "path": "/x/mine.py", "sha256": "0"}
    lines = pip_requirements(RunDir(place / "runs" / "x"), {"plugins": {kind: made}, **told})
    assert not any("mine" in line for line in lines)
    with pytest.raises(RunError, match=r"its backbone 'mine' is code of /x/mine\.py"):
        pip_requirements(RunDir(place / "runs" / "x"), {"plugins": {"backbone": made}, **told})


def test_images_with_values_have_an_example():
    model = Mock(ways=0, tasks=Mock(preparation=Mock(shape=(16, 16, 1)), shape=Mock(outputs=2)))
    model.trained.learner.needs = frozenset()
    shown = example(Form(model))
    assert list(shown["y"])[:3] == [[0.0, 0.0]] * 3
    assert shown["image"].nunique() == 6


@pytest.mark.parametrize("value", [None, "", math.nan, pd.NA, [], np.array([])])
def test_an_empty_cell_has_no_numbers(value):
    assert request_module._numbers({"y": value}, "y", "row 2") == []


@pytest.mark.parametrize("value", [1.5, 0, True, "1.5", {"a": 1}, [[1.0]], np.float32(2)])
def test_a_cell_that_is_no_list_is_told(value):
    with pytest.raises(AdaptError, match="row 2: y: a list of numbers is needed, got"):
        request_module._numbers({"y": value}, "y", "row 2")


def test_a_learner_that_answers_nothing_is_not_registered(place, tmp_path):
    learner = open_model(place / "runs", "maml", place / "data", "cpu")
    wild = {name: p * float("inf") for name, p in learner.trained.params.items()}
    broken = replace(learner, trained=replace(learner.trained, params=wild))
    run = RunDir(place / "runs" / "maml")
    with pytest.raises(RunError, match=r"does not answer its own example.*not finite"):
        register_run(run, lambda: broken, name="wild")
    client = connect(store(place))
    assert not client.search_registered_models("name = 'wild'")
    experiment = client.get_run(run.info()["mlflow"]["run_id"]).info.experiment_id
    found = client.search_logged_models([experiment], "name = 'wild'")
    assert [str(model.status) for model in found] == ["FAILED"]


def test_each_call_adds_a_version_and_the_command_prints_it(place):
    arguments = ["register", "maml", "--name", "mine", "--data-dir", str(place / "data")]
    arguments += ["--runs-dir", str(place / "runs")]
    for number in (1, 2):
        result = CliRunner().invoke(main, arguments, prog_name="metadist")
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == f"models:/mine/{number}"
    found = connect(store(place)).search_model_versions("name = 'image_folder-3w1s-maml'")
    assert [int(version.version) for version in found] == [1]


def test_runs_that_cannot_be_registered(place, tmp_path):
    runs = place / "runs"
    with pytest.raises(TrackingError, match=r"--offline.*metadist sync /.*/lines --tracking-uri"):
        register(place, "lines")
    with pytest.raises(RunError, match="no run 'gone'"):
        register(place, "gone")
    info = RunDir(runs / "maml").info()["mlflow"]
    run = RunDir(runs / "lines")
    run.update(mlflow=info)
    # Functions can be: see test_plugin_models.py.
    assert register(place, "lines")["model"] == "sinusoid-10s-maml"
    run.update(mlflow={**info, "run_id": "f" * 32})
    with pytest.raises(TrackingError, match="is missing in sqlite"):
        register(place, "lines")
    run.update(mlflow={**info, "tracking_uri": "http://***@host"})
    with pytest.raises(TrackingError, match="password is not kept"):
        register(place, "lines")
    run.update(mlflow=None)
    for name in ("", "a/b", "a:b", " a"):
        with pytest.raises(TrackingError, match="for a model"):
            check_name(name)


def test_a_full_disk_is_not_the_tracking_servers_fault(place, monkeypatch):
    def full(*arguments: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("metadist.evaluation.inference.trained_model.TrainedModel.save", full)
        with pytest.raises(OSError, match="No space left on device"):
            register(place, name="full")
    assert not connect(store(place)).search_model_versions("name = 'full'")


def test_a_store_that_refuses_is_named(place, monkeypatch):
    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise ConnectionError("the store is away")

    monkeypatch.setattr("mlflow.MlflowClient.log_model_artifacts", refuse)
    with pytest.raises(TrackingError, match=r"tracking store sqlite.*the store is away"):
        register(place, name="away")


def test_labels_are_answered_in_one_form_of_unicode(rows, model):
    composed, decomposed = "\u00e9t\u00e9", "e\u0301te\u0301"
    support = [row for row in rows if row["role"] == "support"]
    same = [row for row in support if row["label"] == support[0]["label"]]
    for row, label in zip(same, [decomposed, composed] * len(same), strict=False):
        row["label"] = label
    names = model.predict(pd.DataFrame(rows))["probabilities"][0]
    assert composed in names
    assert decomposed not in names
