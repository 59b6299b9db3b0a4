"""``metadist data`` on an object store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data_command import done, refused, run
from object_store import BUCKET, Store

from metadist.doctor import directories

SHAPE = ("--set", "outer.steps=8", "--set", "outer.batch=4", "--count", "32")


def test_prepare_shard_list_verify(shelf: str, object_store: Store, tmp_path: Path) -> None:
    where = ("--data-dir", f"{shelf}/data")
    assert (
        f"go to {shelf}/data/sinusoid/shards/"
        in run("shard", "sinusoid-10shot-maml", *SHAPE, "--writers", "1", *where).stderr
    )
    shutil.rmtree(tmp_path / "cache")
    assert "were in s3://" in done("shard", "sinusoid-10shot-maml", *SHAPE, *where)
    assert f"Prepared in {shelf}/data" in done("list", *where)
    assert "32 episodes of sinusoid" in done("list", *where)
    assert f"OK   {shelf}/data/sinusoid/shards/" in done("verify", "--deep", *where)
    tar = next(key for key in object_store.keys(tmp_path.name) if key.endswith(".tar"))
    object_store.flip(tar)
    result = run("verify", *where)
    refused(result, "1 objects are not as they were written")
    assert f"BAD  s3://{BUCKET}/{tar}: its digest is" in result.stdout


def test_refusals(shelf: str) -> None:
    refused(run("list", "--data-dir", "s3://key:word@shelf/x"), "credentials do not belong")
    refused(run("list", "--data-dir", "ftp://shelf/x"), "s3://bucket/prefix")
    refused(run("verify", "--data-dir", f"{shelf}/empty"), "no class store and no shards there")
    refused(run("verify", "--data-dir", "s3://nowhere-at-all/x"), "no bucket 'nowhere-at-all'")


def test_doctor_looks_at_the_store(shelf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = directories.runs(f"{shelf}/runs")
    assert found.status == "OK"
    assert "working copies in" in found.found
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(directories, "PATIENCE", 0.1)
    [found] = directories.data(f"{shelf}/data")
    assert found.status == "FAIL"
    assert "http://127.0.0.1:1 has not answered" in found.found
