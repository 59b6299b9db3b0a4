"""``metadist.load``: a run, a saved folder or a registered model in memory, or why it cannot be."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from fresh_learners import fresh_model
from own_images import export, request
from plugin_files import BACKBONE, EPISODES, SIGN_MAML

import metadist
from metadist.compute.digest import params_sha256
from metadist.errors import MetadistError, NumericsError, PluginError, RunError
from metadist.evaluation.trained_run import TrainedRun
from metadist.recipe.schema import parse_recipe
from metadist.runs.listing import create_run
from metadist.runs.run_dir import RunDir
from metadist.track.registry import save_model

SHORT = ("eval.episodes=2", "eval.val_episodes=2", "eval.extra_queries=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs ``new`` and ``odd`` of today, and ``old`` and ``lines`` from before runs said how they
    read examples."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    train(root, "new", IMAGES)
    # The last step is validated at the end alone.
    train(root, "odd", IMAGES, "outer.steps=5")
    ended_run(root, "old", IMAGES, *SHORT)
    ended_run(root, "lines", FUNCTIONS)
    return root


def train(root: Path, name: str, text: str, *overrides: str, plugins: Any = ()) -> dict[str, Any]:
    recipe = root / f"{name}.toml"
    recipe.write_text(text)
    return dict(
        metadist.train(
            recipe,
            name=name,
            overrides=[*SHORT, *overrides],
            data_dir=root / "data",
            runs_dir=root / "runs",
            offline=True,
            plugins=plugins,
        )
    )


def load(place: Path, run: str | Path, **more: Any) -> Any:
    return metadist.load(run, **({"runs_dir": place / "runs", "data_dir": place / "none"} | more))


def episode(place: Path) -> tuple[Any, list[str], Any, Any]:
    """Support, labels and queries of a test episode, and the episode."""
    _, source = fresh_model(IMAGES, root=place / "data")
    drawn = source.episodes([1])
    return drawn.support_x[0], [f"way{way}" for way in drawn.support_y[0]], drawn.query_x[0], drawn


@pytest.mark.slow
def test_load_adapt_and_the_served_model_say_the_same(place, tmp_path):
    import mlflow

    support, labels, queries, drawn = episode(place)
    model = load(place, "new")
    folders = export(drawn, tmp_path)
    model.save(tmp_path / "saved")
    save_model(tmp_path / "mlflow", model, ["metadist"])
    served = mlflow.pyfunc.load_model(str(tmp_path / "mlflow"))
    for steps in (None, 3):
        found = model.adapt(support, labels, steps=steps).predict(queries)
        metadist.adapt(
            "new",
            support=folders[0],
            query=folders[1],
            steps=steps,
            out=tmp_path / f"out-{steps}",
            runs_dir=place / "runs",
        )
        with (tmp_path / f"out-{steps}" / "predictions.csv").open(newline="") as handle:
            table = list(csv.DictReader(handle))
        assert tuple(row["label"] for row in table) == found.labels
        by_command = [[float(row[f"p({name})"]) for name in found.classes] for row in table]
        np.testing.assert_array_equal(by_command, found.probabilities)
        params = {} if steps is None else {"steps": steps}
        answer = served.predict(pd.DataFrame(request(*folders)), params=params)
        assert tuple(answer["label"]) == found.labels
        by_server = [[p[name] for name in found.classes] for p in answer["probabilities"]]
        np.testing.assert_array_equal(by_server, found.probabilities)
        # From the folder that save has written, and from the model's of MLflow.
        for folder in ("saved", "mlflow"):
            again = load(place, tmp_path / folder).adapt(support, labels, steps=steps)
            np.testing.assert_array_equal(again.predict(queries).logits, found.logits)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["new", "odd", "old", "lines"])
def test_it_is_the_checkpoint_that_the_runs_figures_are_of(place, run):
    data = place / "data" if run in ("old", "lines") else place / "none"
    model = load(place, run, data_dir=data)
    directory = RunDir(place / "runs" / run)
    best = TrainedRun.load(directory, place / "data", torch.device("cpu")).best
    expected = best.params
    assert set(model.trained.params) == set(expected)
    assert all(torch.equal(model.trained.params[n], p) for n, p in expected.items())
    info = directory.info()
    assert model.facts["checkpoint"] == {
        "step": info["result"]["best_step"],
        "params_sha256": params_sha256(expected),
    }
    assert model.facts["recipe_hash"] == info["recipe_hash"]
    name = model.metric.name
    assert model.facts[name] == info["result"][name]
    assert f"{model.metric.title} on test tasks: " in repr(model)


def test_a_run_says_how_it_reads_examples_from_its_creation_on(place):
    old, new = (RunDir(place / "runs" / name).info() for name in ("old", "new"))
    assert "tasks" not in old
    assert new["tasks"] == load(place, "old", data_dir=place / "data").tasks.document()
    assert json.loads(json.dumps(new["tasks"])) == load(place, "new").tasks.document()


def test_an_older_run_needs_its_data(place, tmp_path):
    with pytest.raises(RunError, match=r"runs/old: it was made before.*none.*data_dir"):
        load(place, "old")
    image_data(tmp_path)
    other = RunDir(place / "runs" / "old")
    digest = other.info()["dataset"]["digest"]
    other.update(dataset={"name": "image_folder", "digest": "0" * 64})
    try:
        with pytest.raises(NumericsError, match="made with dataset digest 0000"):
            load(place, "old", data_dir=place / "data")
    finally:
        other.update(dataset={"name": "image_folder", "digest": digest})


def test_a_run_on_functions(place):
    model = load(place, "lines", data_dir=None)
    found = model.adapt([0.5, 1.0, 2.0], [0.1, 0.2, 0.3]).predict([1.5])
    assert found.mean.shape == (1, 1)


def test_by_path_and_a_run_goes_before_a_folder_of_its_name(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_path = load(tmp_path, place / "runs" / "new")
    assert by_path.facts["run"] == "new"
    load(place, "odd").save("new")
    assert load(place, "new").facts["run"] == "new"
    assert load(tmp_path, "new").facts["run"] == "odd"


def test_what_is_neither(place, tmp_path):
    with pytest.raises(RunError, match=r"no run 'gone' under .*; there are: .*new"):
        load(place, "gone")
    with pytest.raises(RunError, match="no run"):
        load(place, tmp_path)


@pytest.mark.parametrize("status", ["created", "running", "failed"])
def test_a_run_that_is_not_finished(tmp_path, status):
    run = create_run(tmp_path / "runs", "half", parse_recipe(IMAGES), {})
    run.update(status=status)
    with pytest.raises(RunError, match=rf"finished run is needed, this one is '{status}'"):
        load(tmp_path, "half")


def test_a_record_that_is_none_is_named(place):
    run = RunDir(place / "runs" / "odd")
    tasks, result = run.info()["tasks"], run.info()["result"]
    try:
        wrongs: list[Any] = [{}, [], {"shape": {"inputs": 3}, "preparation": None}]
        for wrong in wrongs:
            run.update(tasks=wrong)
            with pytest.raises(RunError, match=r"runs/odd: 'tasks' in run\.json"):
                load(place, "odd")
        run.update(tasks=tasks, result={**result, "best_step": 1})
        with pytest.raises(RunError, match="of the checkpoint of step 1, which the last one"):
            load(place, "odd")
    finally:
        run.update(tasks=tasks, result=result)


def test_plugins_are_given_and_stay_in_use(place, tmp_path):
    learner, network = tmp_path / "sign_maml.py", tmp_path / "my_conv.py"
    learner.write_text(SIGN_MAML)
    network.write_text(BACKBONE.replace("mlp", "conv4"))
    text = IMAGES.replace('"maml"', '"sign_maml"').replace('"conv4"', '"my_conv"')
    both = [learner, network]
    train(place, "signed", text, plugins=both)
    support, labels, queries, _ = episode(place)
    with pytest.raises(RunError, match=r"made with algorithm 'sign_maml'.*give --plugin .*again"):
        load(place, "signed")
    model = load(place, "signed", plugins=both)
    first = model.adapt(support, labels).predict(queries)
    # What is built later is built with them too, as they were, whatever becomes of their files.
    learner.write_text(SIGN_MAML + "VALUE = 2\n")
    with pytest.raises(MetadistError, match="trained to tell 3 classes apart"):
        model.adapt(support[:2], ["a", "b"])
    assert "tells 3 classes apart" in repr(model)
    model.save(tmp_path / "saved")
    learner.write_text(SIGN_MAML)
    with pytest.raises(RunError, match="give --plugin"):
        load(place, tmp_path / "saved")
    again = load(place, tmp_path / "saved", plugins=both).adapt(support, labels)
    np.testing.assert_array_equal(again.predict(queries).logits, first.logits)
    with pytest.raises(PluginError, match="cannot be read"):
        load(place, "signed", plugins=[tmp_path / "gone.py"])


def test_points_with_labels_are_taken_as_they_are(place, tmp_path):
    source = tmp_path / "clusters.py"
    source.write_text(EPISODES.format(name="clusters"))
    text = IMAGES.replace('"image_folder"', '"clusters"').replace('"conv4"\nfilters = 4', '"mlp"')
    train(place, "points", text, "model.norm=none", "model.hidden=8", plugins=[source])
    # The source of the episodes is not needed any more.
    model = load(place, "points")
    assert model.tasks.preparation is None
    fitted = model.adapt([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]], ["a", "b", "c"])
    assert set(fitted.predict([[0.1, 0.2], [3.0, 0.1]]).labels) <= {"a", "b", "c"}
    assert "inputs of 2 numbers" in repr(model)
    with pytest.raises(RunError, match=r"learned inputs that are no images \(clusters\)"):
        metadist.adapt("points", support=tmp_path, query=tmp_path, runs_dir=place / "runs")


FRESH = """
import sys
import numpy
import metadist

model = metadist.load(sys.argv[1])
images = numpy.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype="uint8")
print(model)
print(model.adapt(images, ["a", "b", "c"]).predict(images))
assert not {"ray", "mlflow", "pandas"} & set(sys.modules), sorted(sys.modules)
"""


@pytest.mark.slow
def test_without_data_ray_and_mlflow(place, tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", FRESH, str(place / "runs" / "new")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("maml (conv4) of run new, checkpoint of step 2")
    assert not list(tmp_path.iterdir())
