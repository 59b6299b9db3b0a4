"""``metadist data`` on an object store."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_command import done, refused, run
from object_store import BUCKET, Store

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
    refused(run("list", "--data-dir", "gs://shelf/x"), "s3://bucket/prefix")
    refused(run("verify", "--data-dir", f"{shelf}/empty"), "no class store and no shards there")
    refused(run("verify", "--data-dir", "s3://nowhere-at-all/x"), "no bucket 'nowhere-at-all'")
