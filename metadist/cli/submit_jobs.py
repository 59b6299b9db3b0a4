"""``metadist submit status | logs | stop | list``."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from metadist.cli import options

if TYPE_CHECKING:
    from metadist.jobs.client import JobClient, JobInfo


@click.command("status")
@click.argument("job", metavar="JOB|RUN")
@options.dashboard
@options.as_json
@click.pass_context
def status_(ctx: click.Context, job: str, address: str | None, as_json: bool) -> None:
    """Say how JOB is, or the newest job of RUN."""
    _show(_cluster(ctx, address).find(job), as_json)


@click.command("logs")
@click.argument("job", metavar="JOB|RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends, with its exit status.")
@options.dashboard
@click.pass_context
def logs_(ctx: click.Context, job: str, follow: bool, address: str | None) -> None:
    """Show what JOB has said."""
    from metadist.jobs.follow import DETACHED, Follower, exit_status, patience
    from metadist.jobs.submitter import goes_on

    cluster = _cluster(ctx, address)
    found = cluster.find(job)
    if not follow:
        click.echo(cluster.logs(found.id), nl=False)
        return

    def write(text: str) -> None:
        click.echo(text, nl=False)

    try:
        ended = Follower(cluster, found.id, write, options.say, patience()).follow()
    except KeyboardInterrupt as error:
        options.say(goes_on(found.id, cluster.address))
        ctx.exit(getattr(error, "exit_status", DETACHED))
    options.say(words(ended, seen=True))
    ctx.exit(exit_status(ended))


@click.command("stop")
@click.argument("job", metavar="JOB|RUN")
@options.dashboard
@options.as_json
@click.pass_context
def stop_(ctx: click.Context, job: str, address: str | None, as_json: bool) -> None:
    """End JOB: it is asked to, and killed if it does not; its run can be continued."""
    from metadist.jobs.follow import stop
    from metadist.jobs.package import STOP_SECONDS

    cluster = _cluster(ctx, address)
    found = cluster.find(job)
    if found.over:
        options.say(f"{found.id} is over already")
    else:
        found = stop(cluster, found, STOP_SECONDS + 30)
    _show(found, as_json)


@click.command("list")
@options.dashboard
@options.as_json
@click.pass_context
def list_(ctx: click.Context, address: str | None, as_json: bool) -> None:
    """List the jobs that were submitted, the oldest first."""
    jobs = _cluster(ctx, address).jobs()
    if as_json:
        click.echo(json.dumps({"jobs": [facts(job) for job in jobs]}))
        return
    width = max((len(job.id) for job in jobs), default=0)
    for job in jobs:
        click.echo(f"{job.id:{width}}  {job.status:9}  {_what(job):28}  {_when(job)}".rstrip())


def _cluster(ctx: click.Context, address: str | None) -> JobClient:
    from metadist.jobs.address import dashboard_url
    from metadist.jobs.client import JobClient

    assert ctx.parent is not None
    return JobClient(dashboard_url(address or ctx.parent.params["address"], os.environ))


def _show(job: JobInfo, as_json: bool) -> None:
    click.echo(json.dumps(facts(job)) if as_json else words(job))


def facts(job: JobInfo) -> dict[str, Any]:
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


def words(job: JobInfo, *, seen: bool = False) -> str:
    """A job for people: a line, and of a failed one the end of its log if nobody has seen it."""
    code = f" (exit status {job.exit_code})" if job.exit_code else ""
    line = f"{job.id}: {job.status.lower()}{code}, {_what(job)}, {_when(job)}"
    told = job.status != "FAILED" or (seen and job.exit_code is not None)
    return line if told else f"{line}\n{job.message.strip()}"


def _what(job: JobInfo) -> str:
    return f"{job.verb} {job.run}".strip() or "not of metadist"


def _when(job: JobInfo) -> str:
    if job.started is None:
        return "not started"
    took = max((job.ended or time.time()) - job.started, 0.0)
    minutes, seconds = divmod(round(took), 60)
    hours, minutes = divmod(minutes, 60)
    started = datetime.fromtimestamp(job.started)
    return f"{started:%Y-%m-%d %H:%M:%S}, {hours}:{minutes:02}:{seconds:02}"
