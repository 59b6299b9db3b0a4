"""How much a command says: ``-q`` and ``-v``, before its name or after it."""

from __future__ import annotations

import logging
import sys

import click

_KEY = "metadist.verbosity"
#: What is logged, by how much is to be said: by anybody, and by us, whose news are worth a line.
_LEVELS = {
    -1: (logging.ERROR, logging.ERROR),
    0: (logging.WARNING, logging.INFO),
    1: (logging.WARNING, logging.DEBUG),
    2: (logging.DEBUG, logging.DEBUG),
}
#: Of the process: threads, which have no context, say things too.
_amount = 0


def is_quiet() -> bool:
    """Whether only results and errors are to be said."""
    return _amount < 0


def shows_tracebacks() -> bool:
    """Whether an error is to be shown with all that is known of it."""
    return _amount == max(_LEVELS)


def _say(ctx: click.Context, param: click.Parameter, given: bool) -> None:
    """Say as much as all options together ask for; one context's are followed by its child's."""
    global _amount
    asked = ctx.meta.setdefault(_KEY, set())
    asked |= {param.name} if given else set()
    more = 2 if "debug" in asked else 1 if "verbose" in asked else 0
    _amount = -1 if not more and "quiet" in asked else more
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    others, ours = _LEVELS[_amount]
    logging.getLogger().setLevel(others)
    for name in ("metadist", "data_pipeline"):
        logging.getLogger(name).setLevel(ours)


def _flag(*names: str, help: str) -> click.Option:
    return click.Option(names, is_flag=True, expose_value=False, callback=_say, help=help)


OPTIONS = (
    _flag("-q", "--quiet", help="Say nothing but results and errors."),
    _flag("-v", "--verbose", help="Say more of what happens."),
    _flag("-vv", "--debug", help="Say all that happens, with tracebacks of errors."),
)


def listens(command: click.Command) -> click.Command:
    """The command, which takes these options too."""
    command.params += [option for option in OPTIONS if option not in command.params]
    return command
