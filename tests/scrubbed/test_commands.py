"""Every command in an environment that supplies nothing: as in a bare container, or under cron.

What tests may set for themselves (threads, Ray's patience, libraries' chatter) is not there. A
failure here is one of the product, which has to set what it needs.
"""

from __future__ import annotations

import re
import signal

import pytest
import ray
from dashboard import Dashboard, serving
from data_command import draw_images
from mlflow_server import answers, free_port, wait_for
from searching import SMALL
from stranger import UID, Stranger, nameless
from submitted import DONE

pytestmark = [pytest.mark.slow, pytest.mark.scrubbed, pytest.mark.timeout(900)]

RECIPE = "sinusoid-10shot-maml"
QUICK = ("outer.steps=4", "outer.batch=4", "eval.every=2", "eval.episodes=4", "eval.val_episodes=4")
SET = [f"--set={setting}" for setting in QUICK]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """Somebody in a directory with a space in its name, in which a run has ended."""
    directory = tmp_path_factory.mktemp("else where") / "a place"
    directory.mkdir()
    there = Stranger(directory)
    there.run("train", RECIPE, "--name", "one", *SET)
    return there


def test_the_user_has_no_name(stranger: Stranger):
    if not nameless():
        pytest.skip("a user without a name needs root and namespaces")
    said = stranger.run("doctor")
    assert f"user {UID} has no name" in said
    assert "is not there" in said


def test_workers_do_not_matter(stranger: Stranger):
    results = [
        stranger.result("train", RECIPE, "--name", f"w{n}", "--workers", str(n), *SET)
        for n in (1, 2)
    ]
    results.append(stranger.result("train", RECIPE, "--name", "again", *SET))
    assert len({result["params_sha256"] for result in results}) == 1


def test_a_run_is_evaluated_reported_and_compared(stranger: Stranger):
    assert stranger.result("evaluate", "one") == stranger.result("evaluate", "one")
    stranger.run("report", "one")
    stranger.run("train", RECIPE, "--name", "two", "--set=run.seed=1", "--offline", *SET)
    assert "one" in stranger.run("compare", "one", "two", "--html", "page.html")
    assert (stranger.directory / "page.html").is_file()


def test_images_become_data(stranger: Stranger):
    draw_images(stranger.directory / "images")
    source = ("--source", "images", "--name", "mine", "--option", "size=12")
    stranger.run("data", "prepare", "image_folder", *source)
    stranger.run("data", "preview", "mine", "--out", "preview")
    stranger.run("data", "verify", "mine")


@pytest.mark.long
def test_a_search_ends(stranger: Stranger):
    less = ("--trials=2", "--steps=4", "--every=2", "--concurrent=2")
    result = stranger.result("tune", "sinusoid-lr", "--name", "s", *SMALL, *less)
    assert sum(result["trials"].values()) == 2


def test_the_pages_open_and_close(stranger: Stranger):
    port = free_port()
    process = stranger.start("ui", "--port", str(port))
    try:
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}"), "pages")
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in out + err, err
    assert str(port) in out + err


def test_a_job_is_handed_over(stranger: Stranger):
    line = ("train", RECIPE, "--name", "far", "--runs-dir", "/all/runs", "--offline")
    with serving(Dashboard(version=ray.__version__, after=[DONE])) as there:
        stranger.run("submit", "--address", there.url, "--no-wait", "--", *line)
    [asked] = there.submitted
    assert asked["entrypoint"].startswith("python metadist_job.py train")


def test_a_mistake_is_told_in_a_line(stranger: Stranger):
    said = stranger.run("train", "sinusoid-10shot-mam", status=1)
    assert re.search(r"^Error: no recipe .* Did you mean", said, re.M)


def test_nothing_is_left_beside_the_runs(stranger: Stranger):
    left = {path.name for path in stranger.directory.iterdir()}
    known = {"runs", "data", "mlflow.db", "mlruns", "page.html", "images", "preview"}
    assert left <= known, left
