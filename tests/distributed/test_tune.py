"""Searches on a Ray that is there already: workers per trial, MLflow, what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import metadist
from metadist.errors import ResourceError, SpaceError, TrackingError
from metadist.executors.control.trial_mailbox import Report
from metadist.recipe.schema import load_recipe
from metadist.runs.log import LogReader, series
from metadist.search.search_dir import SearchDir
from metadist.search.spaces import load_space
from metadist.space import Point

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(600)]
SMALL: dict[str, Any] = {
    "steps": 40,
    "every": 20,
    "overrides": [
        "outer.batch=4",
        "engine.mode=loop",
        "engine.chunk=1",
        "eval.val_episodes=4",
        "eval.episodes=4",
    ],
    "seeds": 1,
    "episodes": 6,
    "data_dir": "data",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_trials_with_workers_of_their_own_wait_for_each_other(
    private_ray: None, here: Path
) -> None:
    import ray

    # Four CPUs: two trials of two workers fit, three do not; all three are asked for at once.
    arguments: dict[str, Any] = {"trials": 3, "searcher": "random", "offline": True, **SMALL}
    arguments |= {"seeds": 0, "overrides": [*SMALL["overrides"], "outer.batch=6"]}
    result = metadist.tune("sinusoid-lr", workers_per_trial=2, concurrent=3, **arguments)
    assert sum(result["trials"].values()) == 3
    assert "failed" not in result["trials"]
    search = SearchDir(Path(result["directory"]))
    for trial in search.trials():
        assert search.run(trial.run).attempt_facts(1)["world_size"] == 2
    groups = ray.util.placement_group_table()
    assert [g["state"] for g in groups.values() if g["state"] != "REMOVED"] == []
    result = metadist.tune("sinusoid-lr", concurrent=1, **arguments)
    one_by_one = SearchDir(Path(result["directory"]))
    for trial in search.trials():
        # Who is stopped early depends on who reports first; what is reported does not.
        waited, alone = (
            {p.step: p.value for p in series(s.run(trial.run))["val/mse"]}
            for s in (search, one_by_one)
        )
        both = waited.keys() & alone.keys()
        assert both
        assert {step: waited[step] for step in both} == {step: alone[step] for step in both}
    times = [
        [point.time for point in LogReader(one_by_one.run(t.run)).poll()]
        for t in one_by_one.trials()
    ]
    spans = sorted((min(some), max(some)) for some in times)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_trials_are_nested_in_mlflow_and_best_is_a_recipe(private_ray: None, here: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{here}/mlflow.db"
    result = metadist.tune("sinusoid-lr", trials=3, name="s", tracking_uri=uri, **SMALL)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("metadist")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in runs if r is not parent]
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    names = {r.info.run_name for r in children}
    trials = {"trial-0001", "trial-0002", "trial-0003"}
    assert names == trials | {"default-seed1", result["best"][0]["run"]}
    assert all(r.info.status == "FINISHED" for r in runs)
    assert parent.data.metrics["best/test"] == pytest.approx(result["best_test"]["mean"])
    for child in children:
        tested = [name for name in child.data.metrics if name.startswith("test/")]
        assert bool(tested) == child.info.run_name.endswith("-seed1")
    recipe = load_recipe(result["best_recipe"])
    assert recipe.eval.extra_queries == load_recipe("sinusoid-10shot-maml").eval.extra_queries > 0
    again = metadist.train(recipe, name="again", offline=True, data_dir="data")
    assert again["params_sha256"] == result["best"][0]["params_sha256"]
    assert again["mse"] == result["best"][0]["test"]["mean"]


def test_what_cannot_be_is_refused_before_a_trial_starts(private_ray: None, here: Path) -> None:
    for error, said, more in (
        (ResourceError, "the cluster has no GPUs", {"device": "cuda", "offline": True}),
        (ResourceError, "GPU", {"gpus_per_trial": 1.0, "offline": True}),
        (ResourceError, "9 x 1 CPUs are needed at once", {"workers_per_trial": 9, "offline": True}),
        (TrackingError, r"127\.0\.0\.1:9", {"tracking_uri": "http://127.0.0.1:9"}),
        (SpaceError, "concurrent: 1 or more", {"concurrent": 0}),
        (SpaceError, "measured by", {"base": "strokes-5w1s-maml", "offline": True}),
    ):
        arguments: dict[str, Any] = {**SMALL, **more}
        if "base" in more:
            arguments["overrides"] = []
        with pytest.raises(error, match=said):
            metadist.tune("sinusoid-lr", trials=2, name="refused", **arguments)
        assert not list(here.glob("runs/searches/refused/trials/*"))
        import shutil

        shutil.rmtree(here / "runs", ignore_errors=True)


@pytest.mark.long
def test_another_search_is_not_gone_on_with(private_ray: None, here: Path) -> None:
    metadist.tune("sinusoid-lr", trials=1, name="s", offline=True, **{**SMALL, "seeds": 0})
    more = {key: SMALL[key] for key in ("seeds", "episodes", "data_dir")}
    with pytest.raises(SpaceError, match="only the number of trials"):
        metadist.tune(resume="s", steps=80, offline=True, **more)
    with pytest.raises(SpaceError, match="searches the space"):
        metadist.tune("maml-lr", resume="s", offline=True, **more)
    with pytest.raises(SpaceError, match="may be given more"):
        metadist.tune(resume="s", trials=0, offline=True, **more)
    result = metadist.tune(resume="s", trials=2, offline=True, **{**more, "seeds": 0})
    assert sum(result["trials"].values()) == 2


@pytest.mark.long
def test_a_fault_of_the_machine_ends_the_search(private_ray: None, here: Path) -> None:
    from metadist.executors.cluster.resources import Resources
    from metadist.executors.ray_tune import run_trials

    class Silent:
        def began(self, number: int, point: Point) -> None: ...

        def scored(self, number: int, step: int, score: float) -> None: ...

        def ended(self, number: int) -> None: ...

        def died(self, number: int) -> None:
            raise AssertionError("its process has not died")

    def work(number: int, point: Point, report: Report) -> None:
        (here / f"{number}").touch()
        if number == 1:
            raise ResourceError("trial-0001: no space left on device")
        report(1, 0.5)

    space = replace(load_space("sinusoid-lr"), trials=4, searcher="random", scheduler=None)
    points: list[Point] = [{"inner.lr": 0.1 * n} for n in range(1, 5)]
    with pytest.raises(ResourceError, match="no space left on device"):
        run_trials(
            space,
            work,
            seed=0,
            resources=Resources(1, 1.0),
            known=[],
            points=points,
            stop_files=here / "orders",
            listener=Silent(),
        )
    assert not (here / "4").exists()
