"""Jobs of a Ray cluster, as ``metadist submit`` shows them."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from metadist.jobs.client import JobClient, JobInfo


def cluster_of(ctx: click.Context, address: str | None) -> JobClient:
    from metadist.jobs.address import dashboard_url
    from metadist.jobs.client import JobClient

    assert ctx.parent is not None
    return JobClient(dashboard_url(address or ctx.parent.params["address"], os.environ))


def show(job: JobInfo, as_json: bool) -> None:
    click.echo(json.dumps(document(job)) if as_json else sentence(job))


def document(job: JobInfo) -> dict[str, Any]:
    """A job as ``--json`` prints it."""
    return {
        "job": job.id,
        "run": job.run or None,
        "command": job.verb or None,
        "status": job.status,
        "message": job.message,
        "exit_code": job.exit_code,
        "started": job.started,
        "ended": job.ended,
    }


def sentence(job: JobInfo, *, seen: bool = False) -> str:
    """A job for people: a line, and of a failed one the end of its log if nobody has seen it."""
    code = f" (exit status {job.exit_code})" if job.exit_code else ""
    line = f"{job.id}: {job.status.lower()}{code}, {command_of(job)}, {times_of(job)}"
    told = job.status != "FAILED" or (seen and job.exit_code is not None)
    return line if told else f"{line}\n{job.message.strip()}"


def command_of(job: JobInfo) -> str:
    return f"{job.verb} {job.run}".strip() or "not of metadist"


def times_of(job: JobInfo) -> str:
    if job.started is None:
        return "not started"
    took = max((job.ended or time.time()) - job.started, 0.0)
    minutes, seconds = divmod(round(took), 60)
    hours, minutes = divmod(minutes, 60)
    started = datetime.fromtimestamp(job.started)
    return f"{started:%Y-%m-%d %H:%M:%S}, {hours}:{minutes:02}:{seconds:02}"
