"""Files of an evaluation: of what is built in as they always were; of more than one metric, all."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from fresh_learners import learner, sources
from torch import Tensor

from data_pipeline.storage.local import sha256_bytes
from metadist import objectives
from metadist.backbones import Norm, Statistics
from metadist.compute.collectives import Group, Solo
from metadist.context import Context
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import evaluate, write_evaluation
from metadist.evaluation.protocols import EvalProtocol
from metadist.evaluation.score_table import ScoreTable
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.objectives import NLL, Metric
from metadist.objectives.classification import Classification
from metadist.objectives.density import Density
from metadist.objectives.regression import Regression
from metadist.tasks import Examples, Params, Prediction
from tests.numerics.conftest import RunGroup

FACTS = {"norm": "none", "recipe_hash": "r"}
HOW = EvalProtocol("test-2q", "test", 1, 2, 4, 0, 1, 1)

# --- what is built in -----------------------------------------------------------------------------


def outputs(columns: int, episode: int, step: int) -> Tensor:
    """Numbers that any machine makes alike; one of them is none."""
    rows, way = torch.arange(6)[:, None], torch.arange(columns)
    x = ((7 * rows + 3 * way + 5 * episode + 4 * step * way) % 11).double() / 4 - 1
    if (episode, step) == (2, 1):
        x[0, 0] = math.nan
    return x


#: What was written of the same outputs when there were two kinds of tasks and nothing else.
CLASSIFIED = {
    "by_step": [
        {
            "ci95": 0.4528635740117179,
            "loss": 1.2339974302847057,
            "mean": 0.45833333333333337,
            "median": 0.4166666666666667,
            "step": 0,
            "worst_decile": 0.0,
        },
        {
            "ci95": 0.21217622392718746,
            "loss": 1.2494596555238735,
            "mean": 0.2916666666666667,
            "median": 0.3333333333333333,
            "step": 1,
            "worst_decile": 0.0,
        },
    ],
    "episode_digest": "e" * 64,
    "episodes": 4,
    "failed": 1,
    "failed_by_step": [0, 1],
    "figure_step": 1,
    "kind": "classification",
    "norm": "none",
    "part": "test",
    "queries": 2,
    "recipe_hash": "r",
    "score": "accuracy",
    "shots": 1,
    "trained_steps": 1,
}
#: Sums and products of the values alone: the bytes.
FITTED = "6c4b1aaf0ff2d0d8681d9993babeca2bb1fc59237460bc973ef398b89add9940"


def written(directory: Path, objective: Classification | Regression) -> tuple[bytes, pa.Table]:
    labels = isinstance(objective, Classification)
    target = torch.arange(6) % 3 if labels else torch.full((6, 2), 0.25, dtype=torch.float64)
    table = ScoreTable(objective, HOW)
    for episode in range(4):
        found = [Prediction(outputs(3 if labels else 2, episode, step)) for step in (0, 1)]
        table.write_all(episode, found, Examples(y=target))
    write_evaluation(directory, table.evaluation(1, "e" * 64), FACTS)
    return (directory / "test-2q.json").read_bytes(), pq.read_table(directory / "test-2q.parquet")


def schema(table: pa.Table) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in table.schema]


def check_classified(directory: Path) -> None:
    text, table = written(directory, Classification())
    found = json.loads(text)
    more = {name: found.pop(name) for name in ("metrics", "pooled")}
    assert list(found) == list(CLASSIFIED)
    assert list(more["metrics"]) == ["nll"]
    assert more["metrics"]["nll"]["mean"][0] == pytest.approx(
        found["by_step"][0]["loss"], rel=1e-14
    )
    assert list(more["pooled"]) == ["calibration_error"]
    losses = [row.pop("loss") for row in found["by_step"]]
    wanted = json.loads(json.dumps(CLASSIFIED))
    assert losses == pytest.approx([row.pop("loss") for row in wanted["by_step"]], rel=1e-14)
    assert found == wanted
    columns = [("accuracy", "double"), ("loss", "double"), ("failed", "bool"), ("nll", "double")]
    assert schema(table) == [("episode", "int64"), ("step", "int64"), *columns]


def check_fitted(directory: Path) -> None:
    text, table = written(directory, Regression())
    assert sha256_bytes(text) == FITTED
    columns = [("mse", "double"), ("loss", "double"), ("failed", "bool")]
    assert schema(table) == [("episode", "int64"), ("step", "int64"), *columns]
    assert table["failed"].to_pylist() == [False] * 5 + [True] + [False] * 2
    assert np.isnan(table["mse"].to_numpy()[5])


def test_files_of_what_is_built_in_are_as_they_were(tmp_path: Path):
    check_classified(tmp_path / "a")
    check_fitted(tmp_path / "b")


def test_a_key_too_many_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    more = Evaluation._more
    monkeypatch.setattr(Evaluation, "_more", lambda self: more(self) | {"surplus": {}})
    with pytest.raises(AssertionError):
        check_classified(tmp_path / "a")
    with pytest.raises(AssertionError):
        check_fitted(tmp_path / "b")


# --- more than one metric -------------------------------------------------------------------------

#: One that nobody has built in, and that is better the higher it is.
LIKELIHOOD = Metric("likelihood", "likelihood of a value", higher_is_better=True)


class Likely(Density):
    """Judged by a metric of its own first."""

    name = "likely"
    metrics = (LIKELIHOOD, NLL)
    train_metrics = ("nll",)

    def score(self, prediction: Prediction, target: Examples) -> dict[str, Tensor]:
        loss = self.loss(prediction, target)
        return {"likelihood": (-loss).exp(), "nll": loss}


@dataclass(frozen=True)
class Sure(InnerLoop):
    """MAML that says how sure it is, and wants to know what it does not use."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"latent"})

    def support_loss(
        self, params: Params, examples: Examples, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        passed = self.backbone.forward(params, examples.x, norm)
        return F.mse_loss(passed.value, examples.y), {}

    def predict(self, fitted: AdaptedModel, query: Examples, ctx: Context) -> Prediction:
        plain = super().predict(fitted, query, ctx)
        return Prediction(plain.mean, 0.5 + F.softplus(query.x + fitted.step))


def judged(objective: Density, group: Group) -> tuple[Evaluation, TrainedLearner, Any]:
    trained, data = learner()
    sure = Sure(**{**vars(trained.learner), "objective": objective})
    trained = replace(trained, learner=sure)
    _, test = sources(trained, data)
    how = EvalProtocol("test-7q", "test", 10, 7, 9, 0, 2, 1)
    return evaluate(trained, test, how, group), trained, test


def expected(trained: TrainedLearner, test: Any) -> tuple[np.ndarray, np.ndarray]:
    """[episode, step] negative log-likelihood, and how many of the values are covered, by hand."""
    losses, covered = np.zeros((9, 3)), np.zeros((9, 3))
    tasks = trained.tasks(test, range(9))
    for row in range(9):
        task = tasks.task(row)
        for step, p in enumerate(trained.predict(tasks.slice(row, row + 1), "test", 2)[0]):
            assert p.scale is not None
            m, s, y = (t.double().numpy() for t in (p.mean, p.scale, task.query.y))
            density = np.exp(-(((y - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
            losses[row, step] = -np.log(density).mean()
            covered[row, step] = (np.abs(y - m) <= 1.959963984540054 * s).sum()
    return losses, covered


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], pa.Table]]:
    """Of each objective: what is written."""
    found = {}
    for objective in (Density(), Likely()):
        directory = tmp_path_factory.mktemp(objective.name)
        write_evaluation(directory, judged(objective, Solo())[0], FACTS)
        text = (directory / "test-7q.json").read_text()
        table = pq.read_table(directory / "test-7q.parquet")
        found[objective.name] = (json.loads(text), table)
    return found


def test_a_further_metric_stands_beside_the_one_that_decides(files: Any):
    summary, table = files["density"]
    _, trained, test = judged(Density(), Solo())
    losses, covered = expected(trained, test)
    names = ["nll", "loss", "failed", "mse"]
    assert table.column_names == ["episode", "step", *names]
    assert np.allclose(table["nll"].to_numpy().reshape(9, 3), losses, rtol=1e-12, atol=1e-12)
    assert table["loss"].equals(table["nll"])
    assert (summary["kind"], summary["score"]) == ("density", "nll")
    for step, row in enumerate(summary["by_step"]):
        assert row["mean"] == pytest.approx(losses[:, step].mean(), rel=1e-12)
    # What is built in needs no description.
    assert list(summary["metrics"]) == ["mse"]
    assert list(summary["metrics"]["mse"]) == ["ci95", "mean"]
    errors = table["mse"].to_numpy().reshape(9, 3)
    assert summary["metrics"]["mse"]["mean"] == pytest.approx(errors.mean(0).tolist(), rel=1e-12)
    spread = 1.96 * errors.std(0) / 3
    assert summary["metrics"]["mse"]["ci95"] == pytest.approx(spread.tolist(), rel=1e-12)
    assert summary["pooled"] == {"coverage_95": (covered.sum(0) / 63).tolist()}
    assert "metric" not in summary


def test_a_metric_that_is_not_built_in_is_described(files: Any):
    summary, table = files["likely"]
    assert summary["score"] == "likelihood"
    assert Metric.read(summary["metric"]).as_dict() == LIKELIHOOD.as_dict()
    assert table.column_names == ["episode", "step", "likelihood", "loss", "failed", "nll"]
    assert np.allclose(table["likelihood"], np.exp(-table["nll"].to_numpy()), rtol=1e-12)
    # The worst are the smallest.
    likely = table["likelihood"].to_numpy().reshape(9, 3)
    for step, row in enumerate(summary["by_step"]):
        assert row["worst_decile"] == pytest.approx(likely[:, step].min(), rel=1e-12)
        assert row["median"] == pytest.approx(np.median(likely[:, step]), rel=1e-12)


def test_what_a_learner_is_told_stands_in_the_file(files: Any):
    assert files["density"][0]["needs"] == ["latent"]


def test_files_are_the_same_for_any_number_of_workers(
    run_group: RunGroup,
    tmp_path: Path,
):
    def written_by(size: int) -> dict[str, bytes]:
        for result, _, _ in run_group(size, lambda group: judged(Density(), group)):
            write_evaluation(tmp_path, result, FACTS)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert written_by(1) == written_by(3)


def evaluation_of(metric: Metric, score: list[float], failed: list[bool]) -> Evaluation:
    column = np.array(score)[:, None]
    columns = {metric.name: column, "loss": column}
    how = EvalProtocol("test-1q", "test", 1, 1, len(score), 0, 0, 0)
    return Evaluation(how, "x", (metric,), 0, columns, np.array(failed)[:, None], "")


@pytest.mark.parametrize(
    ("metric", "mean", "median"),
    [
        (LIKELIHOOD, 2.0, 1.0),
        (replace(LIKELIHOOD, failed=0.0), 1.2, 1.0),
        (replace(LIKELIHOOD, higher_is_better=False), 2.0, 3.0),
    ],
    ids=["higher", "counts", "lower"],
)
def test_failed_episodes_count_as_the_metric_says(metric: Metric, mean: float, median: float):
    failed = [False, True, False, True, False]
    held = metric.failed
    found = evaluation_of(metric, [1.0, held, 3.0, held, 2.0], failed).at(0)
    assert found["mean"] == pytest.approx(mean)
    assert found["median"] == median


def test_a_median_that_is_left_out_is_the_worst():
    bad = [True, True, False]
    for higher, worst in ((True, -math.inf), (False, math.inf)):
        metric = replace(LIKELIHOOD, higher_is_better=higher)
        assert evaluation_of(metric, [math.nan, math.nan, 1.0], bad).at(0)["median"] == worst


def test_objectives_are_found():
    assert {"classification", "regression", "density"} <= set(objectives.names())
