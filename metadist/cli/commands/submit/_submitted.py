"""A command that is checked here and runs elsewhere."""

from __future__ import annotations

import inspect
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from metadist.cli import options
from metadist.cli.commands.submit import _jobs
from metadist.process.imports import environment

if TYPE_CHECKING:
    from metadist.jobs.command import Command
    from metadist.jobs.submitter import Submission, SubmittedJob

_GIVEN = "metadist.submit.given"
#: What a run or search begins with; one that goes on has its own.
_BEGUN_BY = {
    "train": "RECIPE is needed, or --resume",
    "tune": "SPACE is needed, or --resume",
    "reproduce": "TABLE is needed",
}


class Submitted(click.Command):
    """It has the grammar of the real command."""

    def __init__(self, real: click.Command) -> None:
        super().__init__(
            real.name,
            params=real.params,
            help=f"Submit 'metadist {real.name}' as a job.\n\n{inspect.cleandoc(real.help or '')}",
            callback=_submit,
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Check the line, and remember it as it was written."""
        written = list(args)
        rest = super().parse_args(ctx, args)
        ctx.meta[_GIVEN] = as_written(self, ctx, written)
        return rest


def as_written(command: click.Command, ctx: click.Context, args: list[str]) -> Command:
    """A command line, without the defaults of what it does not say."""
    from metadist.jobs.command import Command

    values, _, order = command.make_parser(ctx).parse_args(args)
    arguments: list[str] = []
    written: list[tuple[str, str | None]] = []
    for param in dict.fromkeys(order):
        value = values.get(param.name or "")
        if isinstance(param, click.Argument):
            given = value if isinstance(value, tuple | list) else [value]
            arguments += [v for v in given if isinstance(v, str)]
            continue
        name = max(param.opts, key=len)
        if getattr(param, "is_flag", False):
            off = [*param.secondary_opts][:1]
            written.append((name if value or not off else off[0], None))
        else:
            each = value if isinstance(value, list) else [value]
            written += [(name, str(v)) for v in each]
    return Command(command.name or "", tuple(arguments), tuple(written))


def _submit(**_: Any) -> None:
    from metadist.jobs import submit as jobs
    from metadist.jobs.submitter import Submission

    ctx = click.get_current_context()
    assert ctx.parent is not None
    asked = dict(ctx.parent.params)
    as_json, command = asked.pop("as_json"), ctx.meta[_GIVEN]
    begins = not (command.arguments or command.has("--resume") or command.has("--list"))
    if begins and command.verb in _BEGUN_BY:
        raise click.UsageError(_BEGUN_BY[command.verb], ctx)
    if asked["retries"] and not asked["wait"]:
        raise click.UsageError("--retries needs somebody who waits: drop --no-wait")
    if as_json and not command.has("--json"):
        command = command.adding("--json")
    request = Submission(command, **asked)
    if jobs.IN_A_JOB in os.environ:
        _run_in_place(request)
    end = ""

    def show(text: str) -> None:
        nonlocal end
        click.echo(text, nl=False, err=as_json)
        end = (end + text)[-1_000_000:]

    result = jobs.submit(request, options.say, show)
    _end(result, end, as_json)
    ctx.exit(result.exit_status)


def _run_in_place(request: Submission) -> None:
    """Become the command: a job that submitted itself again would wait for itself."""
    from metadist.jobs.submit import in_place

    words, variables = in_place(request)
    options.say("This is a job already: running metadist " + " ".join(words))
    sys.stdout.flush()
    command = [sys.executable, "-m", "metadist", *words]
    os.execve(sys.executable, command, {**variables, **os.environ, **environment()})


def _end(result: SubmittedJob, said: str, as_json: bool) -> None:
    from metadist.jobs.submit import last_json

    if result.job is not None:
        options.say(_jobs.sentence(result.job, seen=True))
    if as_json:
        document = {
            "address": result.address,
            "jobs": result.jobs,
            **(_jobs.document(result.job) if result.job else {"job": result.jobs[-1]}),
            "run": result.plan.run,
            "exit_status": result.exit_status,
            "result": last_json(said) if result.exit_status == 0 else None,
        }
        click.echo(json.dumps(document))
