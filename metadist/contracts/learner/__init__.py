"""What a learner is held to, on each small network and kind of task that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from metadist import algorithms
from metadist.contracts import documentation
from metadist.contracts.finding import Finding, Inspection, first_this, found
from metadist.contracts.learner import declared, gradients, sight, together
from metadist.contracts.settings import Setting, Where, make, places, switched
from metadist.discovery import find
from metadist.errors import RecipeError
from metadist.overrides import Scalar


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a learner."""
    module = find(algorithms, name, "algorithm")
    inspection.run(documentation.CHECKS, module)
    tried = [(where, _setting(name, where, inspection)) for where in places(name, options)]
    taken = [setting for _, setting in tried if isinstance(setting, Setting)]
    pure = True
    for setting in taken:
        on = str(setting.where)
        inspection.run((*sight.FIRST, *declared.CHECKS), setting, on)
        pure = inspection.run([sight.pure], setting, on) and pure
    if not pure:
        inspection.add(first_this("pure functions, to look at gradients, queries and workers"))
        return
    for setting in taken:
        inspection.run((*sight.CHECKS, *gradients.CHECKS), setting, str(setting.where))
    for setting in taken[:1] + [s for s in taken if s.where.norm == "running"]:
        inspection.run(together.CHECKS, setting, str(setting.where))
    for setting in taken[:1]:
        for other in switched(name, options):
            where = replace(setting.where, part_options=other)
            if isinstance(again := _setting(name, where, inspection), Setting):
                inspection.run(gradients.CHECKS, again, str(where))
    if not taken and not any(f.level == "error" for f in inspection.findings.values()):
        reasons = {str(reason) for _, reason in tried}
        inspection.run([_works_somewhere], sorted(reasons))


def _setting(name: str, where: Where, inspection: Inspection) -> Setting | str:
    """The learner in a place; why it refuses, where it does."""
    made: list[Setting | str] = []

    def builds(place: Where) -> tuple[()]:
        try:
            made.append(make(name, place))
        except RecipeError as error:
            made.append(str(error))
        return ()

    inspection.run([builds], where, str(where))
    if made and isinstance(made[0], str):
        inspection.settings.pop(str(where), None)
    return made[0] if made else "its build, init or state fails"


def _works_somewhere(reasons: list[str]) -> Iterator[Finding]:
    """The learner takes one of the places here."""
    yield found(
        "a learner that takes one of the small networks here",
        f"none that it takes: {'; '.join(reasons)}",
        "see TARGETS and what build refuses",
    )
