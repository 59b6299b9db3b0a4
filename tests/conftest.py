"""What every test stands on: a quiet environment, real data or an honest skip, no silent gaps."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import signal
import uuid
from collections import defaultdict
from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

# A user has none of these: they are for what tests do beside the product, or faster than it. Where
# METADIST_SCRUBBED is set they are not there, and the product has to do without.
# Before anything imports torch, ray or mlflow: all three read the environment once.
_DEFAULTS = {
    "OMP_NUM_THREADS": "1",  # tests compute by themselves, several at once
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # every report waits for this poll; ours is 0.5
    "RAY_USAGE_STATS_ENABLED": "0",  # tests start Ray by themselves
    "WDS_SECURE": "1",  # tests read shards with webdataset alone
    "MLFLOW_DISABLE_TELEMETRY": "true",  # tests ask stores with mlflow alone
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
if os.environ.get("METADIST_SCRUBBED") != "1":
    for _name, _value in _DEFAULTS.items():
        os.environ.setdefault(_name, _value)
    # No test cuts the power: what this process writes need not be on the disk before it goes on.
    os.fsync = lambda fd: None

# A developer's cluster, tracking server, object store or data folder is never touched.
for _name in (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "METADIST_CACHE_DIR",
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_API_SERVER_ADDRESS",
    "RAY_JOB_ID",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "METADIST_DATA_DIR",
):
    os.environ.pop(_name, None)

# A script starts what runs beside it with Ctrl-C ignored, nohup with SIGHUP. Whoever ignores a
# signal means it, and what tests start would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

import hypothesis  # noqa: E402
import pytest  # noqa: E402

if TYPE_CHECKING:
    from object_store import Store

IN_CI = os.environ.get("METADIST_CI") == "1"
DATA_ROOT = os.environ.get("METADIST_DATA_ROOT")
NO_DATA_ROOT = "no data root: set METADIST_DATA_ROOT"
PACKAGES = ("metadist", "data_pipeline", "tune_spaces")

# In CI only these reasons excuse a skip: what a machine may lack, never a tool that setup forgot.
EXCUSES = ("data root", "gpu", "no kubectl", "no api server", "root and namespaces")

# A machine under load is no failure, and CI draws the same examples each time.
hypothesis.settings.register_profile("metadist", deadline=None, derandomize=IN_CI, print_blob=True)
hypothesis.settings.load_profile("metadist")


def pytest_configure(config: pytest.Config) -> None:
    expected = os.environ.get("METADIST_EXPECT_INSTALLED")
    if not expected:
        return
    for name in PACKAGES:
        file = import_module(name).__file__
        if file is None or not Path(file).resolve().is_relative_to(Path(expected).resolve()):
            raise pytest.UsageError(
                f"METADIST_EXPECT_INSTALLED demands {name} below {expected}, but it came from "
                f"{file}. Run pytest from another directory, with that folder first in PYTHONPATH."
            )


def pytest_report_header() -> str:
    return f"data root: {DATA_ROOT}" if DATA_ROOT else "data root: NONE"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not DATA_ROOT:
        terminalreporter.section("no data root", sep="!", red=True)
        terminalreporter.line(
            "Tests on real data sets were skipped: METADIST_DATA_ROOT does not name their folder."
        )


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure unless its reason is one that CI accepts."""
    if not IN_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(excuse in reason.lower() for excuse in EXCUSES):
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid}: {reason}\nIn CI a skip is a failure, unless it is for want of a "
            "data root, a GPU, root, a kubectl or an API server: whatever else a test needs, `make "
            "setup` or .ci/run installs."
        )


#: Folders whose tests start machines and clusters, those that are slowest to start first.
CLUSTERS = ("cluster", "distributed", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Clusters first: one process starts them while another has tests that only compute.

    Ray gives a node 30 seconds to start, however many of them share a core.
    """

    def place(item: pytest.Item) -> int:
        parts = item.path.relative_to(Path(__file__).parent).parts
        return CLUSTERS.index(parts[0]) if parts[0] in CLUSTERS else len(CLUSTERS)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """A million objects stay until the end: no search for garbage need pass over them again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    from undrawn import choose

    choose(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An S3-compatible server, started once."""
    from object_store import serve

    yield from serve(tmp_path_factory.mktemp("store"))


@pytest.fixture
def shelf(object_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a prefix of its own; this process reaches it and keeps working copies in tmp_path."""
    from object_store import BUCKET

    from data_pipeline.storage import object_requests

    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("METADIST_STORE_WAIT_S", "20")
    # A store that another test has left away is not waited for in this one.
    monkeypatch.setattr(object_requests, "_stores", defaultdict(object_requests._Waiting))
    # The folder of a test that has passed is removed, and its name is given again.
    return f"s3://{BUCKET}/{tmp_path.name}-{uuid.uuid4().hex[:8]}"


def _makers_of_data() -> str:
    """A digest of what decides how embedded data come out."""
    import numpy as np

    import data_pipeline

    folder = Path(data_pipeline.__file__).parent
    digest = hashlib.sha256(np.__version__.encode() + Path(__file__).read_bytes())
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session")
def strokes_data(pytestconfig: pytest.Config) -> Path:
    """A data directory with a tenth of the embedded dataset; not to be changed.

    The first process that asks makes it, and it is kept for as long as the code that makes it.
    """
    from data_pipeline.datasets import strokes
    from metadist import prepare

    root = pytestconfig.rootpath / "build" / "test-data" / _makers_of_data()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "strokes.lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        patch.setattr(strokes, "ALPHABETS", (("train", 2), ("val", 1), ("test", 1)))
        patch.setattr(strokes, "CHARACTERS", 20)
        strokes._characters.cache_clear()
        prepare("strokes", data_dir=root / "strokes")
        strokes._characters.cache_clear()
    return root / "strokes"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that holds real data sets; a test that asks for it is skipped without one."""
    if not DATA_ROOT:
        pytest.skip(NO_DATA_ROOT)
    path = Path(DATA_ROOT).resolve()
    if not path.is_dir():
        pytest.fail(f"METADIST_DATA_ROOT names {path}, which is no folder")
    return path
