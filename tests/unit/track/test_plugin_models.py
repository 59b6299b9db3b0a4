"""Learners from outside in MLflow's registry answer what the loaded model says, bit for bit."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from own_images import save
from PIL import Image
from plugin_files import install
from plugin_parts import FOLDER, LEARNED, Learned, prepared

import metadist
from metadist.cli.main import main
from metadist.errors import AdaptError, RunError

pytestmark = pytest.mark.slow

each = pytest.mark.parametrize("learned", LEARNED, ids=str)
PROTOTYPES, SETS, REFINED = LEARNED


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Path]:
    """A run of each in MLflow; the learners are those of an installed distribution."""
    place = prepared(tmp_path_factory.mktemp("models"))
    (place / "mlflow.db").write_bytes(template.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        install(
            place / "site",
            "few-shot-lab",
            {},
            **{f"algorithm__{one}": f"lab_{one}" for one in names()},
        )
        for one in names():
            (place / "site" / f"lab_{one}.py").write_bytes((FOLDER / f"{one}.py").read_bytes())
        patch.syspath_prepend(str(place / "site"))
        for learned in LEARNED:
            data = [path for path in learned.plugins if path.stem == "blots"]
            learned.train(
                place, learned.name, plugins=data, offline=False, tracking_uri=store(place)
            )
        yield place


def names() -> list[str]:
    return [learned.name for learned in LEARNED]


def store(place: Path) -> str:
    return f"sqlite:///{place}/mlflow.db"


def registered(root: Path, learned: Learned) -> Any:
    """The model as MLflow loads it."""
    import mlflow

    found = metadist.register(learned.name, runs_dir=root / "runs", data_dir=root / "data")
    mlflow.set_tracking_uri(store(root))
    try:
        return mlflow.pyfunc.load_model(found["uri"])
    finally:
        # An address, also the one from before, would stand in the environment from here on.
        mlflow.set_tracking_uri("")


def examples(learned: Learned, count: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    if learned is SETS:
        return draw.uniform(-5, 5, (count, 1))
    return draw.integers(0, 256, (count, 16, 16), dtype=np.uint8)


def row(learned: Learned, role: str, example: np.ndarray, target: Any = None) -> dict[str, Any]:
    if learned is SETS:
        return {"role": role, "x": example.tolist(), "y": [] if target is None else target}
    buffer = io.BytesIO()
    Image.fromarray(example).save(buffer, "PNG")
    image = base64.b64encode(buffer.getvalue()).decode()
    return {"role": role, "label": target or "", "image": image}


@pytest.mark.slow
@each
def test_the_served_model_says_what_the_loaded_one_says(root: Path, learned: Learned) -> None:
    ways = 4
    support, query = examples(learned, 2 * ways, 0), examples(learned, 5, 1)
    more = examples(learned, 6, 2) if learned is REFINED else None
    targets: list[Any] = [f"class {i % ways}" for i in range(2 * ways)]
    if learned is SETS:
        targets = [[float(np.sin(x[0]))] for x in support]
    rows = [row(learned, "support", x, y) for x, y in zip(support, targets, strict=True)]
    rows += [row(learned, "unlabeled", x) for x in ([] if more is None else more)]
    rows += [row(learned, "query", x) for x in query]

    model = metadist.load(learned.name, runs_dir=root / "runs")
    given: Mapping[str, Any] = {} if more is None else {"unlabeled": list(more)}
    images = learned is not SETS
    fitted = model.adapt(list(support) if images else support, targets, **given)
    found = fitted.predict(list(query) if images else query)

    answer = registered(root, learned).predict(pd.DataFrame(rows))
    if learned is SETS:
        assert [*answer.columns] == ["mean", "scale"]
        assert found.scale is not None
        assert answer["mean"].tolist() == found.mean.tolist()
        assert answer["scale"].tolist() == found.scale.tolist()
    else:
        assert answer["label"].tolist() == list(found.labels)
        for told, probabilities in zip(
            answer["probabilities"], found.probabilities.tolist(), strict=True
        ):
            assert told == dict(zip(found.classes, probabilities, strict=True))

    model.save(root / f"saved-{learned.name}")
    again = metadist.load(root / f"saved-{learned.name}")
    saved = again.adapt(list(support) if images else support, targets, **given)
    other = saved.predict(list(query) if images else query)
    assert np.array_equal(other.outputs, found.outputs)


@pytest.mark.slow
def test_requests_that_cannot_be_answered_say_why(root: Path) -> None:
    from mlflow.exceptions import MlflowException

    points = examples(SETS, 3, 0)
    good = [row(SETS, "support", x, [0.5]) for x in points] + [row(SETS, "query", points[0])]
    model = registered(root, SETS)
    assert len(model.predict(pd.DataFrame(good))) == 1
    for number, wrong, said in (
        (0, {"y": []}, "row 1: a support point needs a y, it has none"),
        (3, {"y": [1.0]}, "row 4: a query has the y [1.0]; leave it empty"),
        (1, {"x": [1.0, 2.0]}, "row 2: x: 1 numbers are needed, got 2"),
        (1, {"x": [float("nan")]}, "row 2: x: finite numbers are needed"),
        (2, {"role": "unlabeled"}, "row 3: role: 'support' or 'query' is needed"),
        (2, {"y": [1.0, 2.0]}, "support values"),
    ):
        rows = [{**one, **(wrong if place == number else {})} for place, one in enumerate(good)]
        with pytest.raises(MlflowException) as caught:
            model.predict(pd.DataFrame(rows))
        assert said in str(caught.value)
    images = examples(REFINED, 9, 0)
    rows = [row(REFINED, "support", x, f"{i}") for i, x in enumerate(images[:4])]
    rows += [row(REFINED, "query", x) for x in images[4:]]
    with pytest.raises(MlflowException, match="learns from unlabeled examples too; give some"):
        registered(root, REFINED).predict(pd.DataFrame(rows))


def test_a_learner_in_a_file_cannot_be_carried(root: Path) -> None:
    own = [path for path in PROTOTYPES.plugins if path.stem != "prototypes"]
    other = root / "own_prototypes.py"
    other.write_text((FOLDER / "prototypes.py").read_text("utf-8"), "utf-8")
    given = [*own, other]
    PROTOTYPES.train(root, "file", "algorithm.name=own_prototypes", plugins=given)
    with pytest.raises(RunError, match=r"code of .*own_prototypes\.py, which a model cannot carry"):
        metadist.register("file", runs_dir=root / "runs", data_dir=root / "data", plugins=given)


def test_unlabeled_examples_are_given_to_learners_that_want_some(root: Path) -> None:
    images, labels = [*examples(REFINED, 4, 0)], ["a", "b", "c", "d"]
    with pytest.raises(AdaptError, match="unlabeled"):
        metadist.load("refined_prototypes", runs_dir=root / "runs").adapt(images, labels)
    with pytest.raises(AdaptError, match="unlabeled"):
        metadist.load("prototypes", runs_dir=root / "runs").adapt(images, labels, unlabeled=images)


def test_the_command_takes_a_folder_of_unlabeled_images(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    support, query, free = examples(REFINED, 4, 0), examples(REFINED, 3, 1), examples(REFINED, 6, 2)
    for way, image in enumerate(support):
        save(tmp_path / f"support/way{way}/0.png", image[:, :, None])
    for folder, images in (("query", query), ("free", free)):
        for number, image in enumerate(images):
            save(tmp_path / f"{folder}/{number}.png", image[:, :, None])
    given = ["adapt", "refined_prototypes", "--support=support", "--query=query", "--out=out"]
    given += [f"--runs-dir={root / 'runs'}", f"--data-dir={root / 'data'}"]
    refused = CliRunner().invoke(main, given, prog_name="metadist")
    assert refused.exit_code == 1
    assert "learns from unlabeled examples too; give some" in refused.stderr
    done = CliRunner().invoke(main, [*given, "--unlabeled=free"], prog_name="metadist")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out/adaptation.json").read_text("utf-8"))
    assert record["unlabeled"] == 6
    fitted = metadist.load("refined_prototypes", runs_dir=root / "runs").adapt(
        list(support), [f"way{way}" for way in range(4)], unlabeled=list(free)
    )
    found = fitted.predict(list(query))
    with (tmp_path / "out/predictions.csv").open(newline="") as handle:
        table = list(csv.DictReader(handle))
    for told, probabilities in zip(table, found.probabilities.tolist(), strict=True):
        assert [float(told[f"p({name})"]) for name in found.classes] == probabilities
