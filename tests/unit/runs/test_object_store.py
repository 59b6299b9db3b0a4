"""Runs in an object store: claims, bundles, growing files, and two nodes at one run."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from object_store import BUCKET, Store
from small_runs import SMALL

import metadist
from data_pipeline.errors import DamagedData, MissingData, StoreError, UnsafeData
from data_pipeline.storage.local import sealed_json
from data_pipeline.storage.object_uri import address_of, local_path
from data_pipeline.storage.objects import ObjectPlace, object_place
from metadist.compute.resolve import resolve
from metadist.errors import RunError, SupersededError
from metadist.recipe.schema import Recipe, load_recipe
from metadist.runs import checkpoints
from metadist.runs.checkpoints import TrainState
from metadist.runs.listing import create_run, list_runs, open_run
from metadist.runs.log import LogWriter, series
from metadist.runs.object_store.bundles import Bundles
from metadist.runs.object_store.claims import Claim, Claims
from metadist.runs.object_store.growing_file import GrowingFile
from metadist.runs.run_dir import Attempt, RunDir


@pytest.fixture
def place(shelf: str) -> ObjectPlace:
    found = object_place(local_path(shelf))
    assert found is not None
    return found


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this process act on a node of a name, with working copies of its own."""

    def be(name: str) -> None:
        monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path / f"cache-{name}"))

    return be


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return resolve(load_recipe("sinusoid-10shot-maml", SMALL))


def _create(shelf: str, recipe: Recipe) -> RunDir:
    return create_run(local_path(f"{shelf}/runs"), "x", recipe, {"dataset": {"digest": "d"}})


def _open(shelf: str) -> RunDir:
    return open_run(local_path(f"{shelf}/runs"), "x")


def _state(step: int) -> TrainState:
    return TrainState(step, {"w": torch.full((3,), float(step))}, {}, {}, None)


def _key(run: RunDir) -> str:
    return address_of(run.path).removeprefix(f"s3://{BUCKET}/")


def _claim(run: RunDir) -> Attempt:
    return run.claim({"numerics": {}, "bits": "verified"})


def test_of_eight_claimants_one_wins_at_once(
    place: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a pause, though all have seen the same claims when they make theirs."""
    winners, seen = Claims.winners, threading.Barrier(8)

    def all_look_first(self: Claims) -> list[Claim]:
        found = winners(self)
        seen.wait(30)
        return found

    monkeypatch.setattr(time, "sleep", pytest.fail)
    for run in ("x", "y"):
        with monkeypatch.context() as patch, ThreadPoolExecutor(8) as pool:
            patch.setattr(Claims, "winners", all_look_first)
            claims = [Claims(place / run) for _ in range(8)]
            made = list(pool.map(lambda one: one.claim({}), claims))
        [won] = [claim for claim in made if claim is not None]
        assert won.number == 1
        assert claims[0].winners() == [won]


CLAIMANT = """
import sys
from data_pipeline.storage.object_uri import local_path
from data_pipeline.storage.objects import object_place
from metadist.runs.object_store.claims import Claims

claims = Claims(object_place(local_path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
made = claims.claim({"who": sys.argv[2]})
print("none" if made is None else made.number, flush=True)
"""


@pytest.mark.slow
def test_of_eight_processes_one_wins(place: ObjectPlace, shelf: str) -> None:
    commands = [[sys.executable, "-c", CLAIMANT, shelf, str(who)] for who in range(8)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    claimants = [subprocess.Popen(command, **pipes) for command in commands]  # type: ignore[call-overload]
    assert [one.stdout.readline() for one in claimants] == ["ready\n"] * 8
    for one in claimants:
        one.stdin.write("now\n")
        one.stdin.flush()
    said = [one.communicate(timeout=120)[0].strip() for one in claimants]
    assert all(one.returncode == 0 for one in claimants)
    # One that looks after the first has won claims the next number: it follows, and does not share.
    numbers = sorted(int(text) for text in said if text != "none")
    assert numbers == list(range(1, len(numbers) + 1))
    winners = Claims(place).winners()
    assert [claim.number for claim in winners] == numbers
    assert {Claims(place).read(claim)["who"] for claim in winners} == {
        str(who) for who, text in enumerate(said) if text != "none"
    }


def test_claims_follow_each_other(place: ObjectPlace) -> None:
    claims = Claims(place)
    first = claims.claim({"who": "first"})
    assert first is not None
    assert claims.read(first)["who"] == "first"
    claims.record(first, {"who": "still the first"})
    assert claims.read(first) == {"who": "still the first"}
    second = Claims(place).claim({})
    assert second is not None
    assert claims.winners() == [first, second]


def test_claims_of_older_runs_count(place: ObjectPlace, object_store: Store) -> None:
    """They have a key of their own each, and the store's clock elects."""
    for key in ("f", "0"):  # the smaller key would win if the store's time did not come first
        (place / f"0001-{key * 32}.claim").put(sealed_json({"who": key}))
        time.sleep(1.1 if key == "f" else 0)
    claims, old = Claims(place), Claim(1, "f" * 32)
    assert claims.winners() == [old]
    assert claims.read(old) == {"who": "f"}
    new = claims.claim({})
    assert new is not None
    assert new.number == 2
    # One that was put at the same moment by who does not know better.
    (place / f"0002-{'0' * 32}.claim").put(sealed_json({}))
    assert claims.winners() == [old, new]


def test_last_words_of_the_driver_before_end_no_successor(
    shelf: str, recipe: Recipe, node: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It claims the record while the new driver does."""
    node("a")
    run = _create(shelf, recipe)
    first = run.drive(status="running")
    node("b")
    other = _open(shelf)
    claim, claims = Claims.claim, []

    def disturbed(self: Claims, body: Any) -> Claim | None:
        claims.append(1)
        mine = claim(self, body)
        if len(claims) > 1 or mine is None:
            return mine
        (self._place / f"{mine.number + 1:04d}.claim").put(sealed_json({"key": "f" * 32}))
        return None

    monkeypatch.setattr(Claims, "claim", disturbed)
    second = other.drive(status="running")
    second.update(status="finished")
    node("a")
    with pytest.raises(SupersededError):
        first.update(status="killed")
    node("b")
    assert _open(shelf).info()["status"] == "finished"


def test_bundles(place: ObjectPlace, object_store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(b"1")
    bundles = Bundles(place)
    first = bundles.put(tmp_path, ["a/one"])
    (place / f"0009-{'0' * 32}" / "a" / "one").put(b"of a writer that was killed")
    assert bundles.newest() == first
    (tmp_path / "a/one").write_bytes(b"22")
    second = bundles.put(tmp_path, ["a/one"])
    assert bundles.newest() == second
    assert not object_store.keys(f"{place.key}/{first.name}/a")
    (tmp_path / "out").mkdir()
    assert bundles.get(second, tmp_path / "out") == ["a/one"]
    assert (tmp_path / "out/a/one").read_bytes() == b"22"
    object_store.flip(f"{place.key}/{second.name}/a/one")
    with pytest.raises(DamagedData, match=f"{second.name}/a/one: its digest"):
        bundles.get(second, tmp_path / "out")
    outside = {"files": {"../out": {"sha256": "", "bytes": 0}}}
    object_store.write(f"{place.key}/{second.name}/bundle.json", sealed_json(outside))
    with pytest.raises(UnsafeData):
        bundles.get(second, tmp_path / "out")


def test_growing_files(place: ObjectPlace, object_store: Store, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    writer, reader = GrowingFile(place, here), GrowingFile(place, there)
    reader.pull()
    here.write_bytes(b"one\n")
    writer.push()
    writer.push()
    reader.pull()
    assert there.read_bytes() == b"one\n"
    here.write_bytes(b"one\ntwo\n")
    writer.push()
    reader.pull()
    late = GrowingFile(place, tmp_path / "late")
    late.pull()
    assert there.read_bytes() == (tmp_path / "late").read_bytes() == here.read_bytes()
    GrowingFile(place, here).pull()  # a reader that shares the writer's file
    assert here.read_bytes() == b"one\ntwo\n"
    assert len(object_store.keys(f"{place.key}/")) == 2
    object_store.flip(f"{place.key}/00000002")
    with pytest.raises(DamagedData, match=f"{place}/00000002: its digest"):
        GrowingFile(place, tmp_path / "later").pull()


def test_a_run_is_the_same_on_every_node(
    shelf: str, node: Callable[[str], None], recipe: Recipe, object_store: Store
) -> None:
    node("a")
    run = _create(shelf, recipe)
    with pytest.raises(RunError, match=f"{address_of(run.path)} exists already"):
        _create(shelf, recipe)
    driver = run.drive(status="running")
    attempt = _claim(run)
    writer = LogWriter(attempt)
    writer.add(1, {"train/loss": 0.5})
    writer.flush()
    checkpoints.save(attempt, _state(1), {"lineage": recipe.lineage})
    run.evaluation.mkdir()
    with attempt.commit("evaluation"):
        (run.evaluation / "test.json").write_bytes(b"{}")
    driver.update(status="finished", result={"accuracy": 1})

    node("b")
    with pytest.raises(RunError, match="exists already"):
        _create(shelf, recipe)
    other = _open(shelf)
    assert other.path != run.path
    assert other.info() == run.info()
    assert other.recipe() == recipe
    assert series(other)["train/loss"][0].value == 0.5
    assert (other.evaluation / "test.json").read_bytes() == b"{}"
    found = checkpoints.newest(other, recipe.lineage)
    assert found is not None
    assert torch.equal(found[0].params["w"], torch.ones(3))
    assert [r.name for r in list_runs(local_path(f"{shelf}/runs"))] == ["x"]
    with pytest.raises(RunError, match=r"no run 'y' under s3://.*there are: x"):
        open_run(local_path(f"{shelf}/runs"), "y")
    assert open_run(Path("runs"), f"{shelf}/runs/x") == other


def test_another_node_takes_over(shelf: str, node: Callable[[str], None], recipe: Recipe) -> None:
    node("a")
    run = _create(shelf, recipe)
    driver, attempt = run.drive(status="running"), _claim(run)
    writer = LogWriter(attempt)
    writer.add(1, {"train/loss": 1.0})
    writer.flush()
    checkpoints.save(attempt, _state(1), {"lineage": recipe.lineage})
    writer.add(2, {"train/loss": 2.0})
    writer.flush()  # on disk of this node alone

    node("b")
    other = _open(shelf)
    taken, second = other.drive(status="running"), _claim(other)
    assert second.number == 2
    writer_b = LogWriter(second)
    writer_b.add(2, {"train/loss": 2.5})
    writer_b.flush()
    checkpoints.save(second, _state(2), {"lineage": recipe.lineage})

    node("a")
    for late in (
        lambda: checkpoints.save(attempt, _state(2), {"lineage": recipe.lineage}),
        lambda: driver.update(status="finished"),
        lambda: attempt.commit("evaluation").__enter__(),
    ):
        with pytest.raises(SupersededError, match="taken over"):
            late()
    # What this node had logged beyond its last commit does not count any more, here either.
    again = _open(shelf)
    assert [p.value for p in series(again)["train/loss"]] == [1.0, 2.5]

    node("b")
    taken.update(status="finished")
    assert [p.value for p in series(_open(shelf))["train/loss"]] == [1.0, 2.5]


def test_a_node_that_comes_back_puts_what_it_had(
    shelf: str, node: Callable[[str], None], recipe: Recipe
) -> None:
    node("a")
    run = _create(shelf, recipe)
    writer = LogWriter(_claim(run))
    writer.add(1, {"train/loss": 1.0})
    writer.flush()
    _claim(_open(shelf))
    node("b")
    assert [p.value for p in series(_open(shelf))["train/loss"]] == [1.0]


def test_messages_reach_other_nodes(
    shelf: str, node: Callable[[str], None], recipe: Recipe
) -> None:
    node("a")
    run = _create(shelf, recipe)
    attempt = _claim(run)
    run.log.mkdir()
    name = f"messages-{'0' * 32}.txt"
    (run.log / name).write_text("WARNING of rank 0\n")
    with attempt.commit():
        pass
    node("b")
    other = _open(shelf)
    other.store.pull_logs()
    assert (other.log / name).read_text() == "WARNING of rank 0\n"


def test_damaged_checkpoints_are_named_and_passed_over(
    shelf: str,
    node: Callable[[str], None],
    recipe: Recipe,
    object_store: Store,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node("a")
    run = _create(shelf, recipe)
    attempt = _claim(run)
    for step in (1, 2, 3):
        checkpoints.save(attempt, _state(step), {"lineage": recipe.lineage})
    checkpoints.prune(attempt, 2, None)
    node("b")
    other = _open(shelf)
    assert checkpoints.steps(other) == [2, 3]
    folder = f"{_key(other)}/checkpoints/step-00000003/"
    [key] = [k for k in object_store.keys(folder) if k.endswith(".safetensors")]
    object_store.flip(key)
    found = checkpoints.newest(other, recipe.lineage)
    assert found is not None
    assert found[0].step == 2
    assert key in caplog.text
    checkpoints.set_aside(_claim(other), 2)
    assert checkpoints.steps(other) == [2]
    # A damaged copy is fetched again.
    target = checkpoints.directory(other, 2) / "state.safetensors"
    target.write_bytes(target.read_bytes()[:-1] + b"?")
    again = checkpoints.newest(other, recipe.lineage)
    assert again is not None
    assert again[0].step == 2


def test_a_damaged_record_is_refused_by_name(
    shelf: str, node: Callable[[str], None], recipe: Recipe, object_store: Store
) -> None:
    node("a")
    run = _create(shelf, recipe)
    [key] = [k for k in object_store.keys(f"{_key(run)}/info/") if k.endswith(".json")]
    object_store.write(key, object_store.read(key).replace(b"created", b"crested"))
    node("b")
    with pytest.raises(DamagedData, match=key):
        _open(shelf)


def test_what_needs_a_path_says_so(shelf: str) -> None:
    for act in (
        lambda: metadist.tune("maml-lr", runs_dir=f"{shelf}/runs"),
        lambda: metadist.tune("maml-lr", runs_dir="s3://key:word@shelf/runs"),
    ):
        with pytest.raises(RunError, match="a search needs a path") as caught:
            act()
        assert "word" not in str(caught.value)
    with pytest.raises(MissingData, match="has no bucket 'nowhere-at-all'"):
        metadist.evaluate("x", runs_dir="s3://nowhere-at-all/runs")
    with pytest.raises(StoreError, match="credentials"):
        metadist.evaluate("x", runs_dir="s3://key:word@shelf/runs")
