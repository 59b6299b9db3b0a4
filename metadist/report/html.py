"""The report of a run: what ``templates/run.html.j2`` shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from metadist.objectives import Metric
from metadist.report.document import Card, Note, Stat, page
from metadist.report.figures import adaptation, distribution, learning_curves
from metadist.report.phrases import after_steps, diverged, label, plural, queries
from metadist.report.sections.attempts import attempts_card
from metadist.report.sections.diagnostics import learned_cards
from metadist.report.sections.episodes import shown_episodes
from metadist.report.sections.explanations import explanation_cards
from metadist.report.sections.facts import facts, wide_facts
from metadist.report.sections.instances import instances_card
from metadist.report.sections.verification import roc_card
from metadist.runs.readers.evaluations import FurtherFigures, StepFigures, StoredEvaluation
from metadist.runs.readers.run_data import RunData
from metadist.statistics.classes import SAME_CLASSES, TOO_FEW, tells_nothing
from metadist.statistics.format import mean_of, number, score, score_ci

_STATUS = {
    "created": "This run has not begun.",
    "running": "This run is not finished.",
    "failed": "This run ended early.",
    "killed": "This run was interrupted.",
}
_TRANSDUCTIVE = (
    "Normalisation layers take their statistics from the whole query batch, as in MAML's published "
    "experiments. A prediction therefore depends on the other queries of its episode: compare "
    "these figures only with others computed so, at the same number of queries, and not with "
    "learners that classify one image at a time. "
    'model.norm = "support", "running" or "none" avoids it.'
)
_UNVERIFIED = (
    "This run was continued under other numerics (torch build, CPU or GPU) than it began with. It "
    "is a valid run, but its bits cannot be compared with those of an uninterrupted one."
)


def render(data: RunData) -> str:
    """The report as text."""
    ways = data.recipe.eval_ways if data.recipe else 0
    main = data.protocols[0] if data.protocols else None
    best = main.checkpoint_step if main else None
    finest = max(data.own, key=lambda p: (p.scores is not None, p.queries)) if main else None
    # A squared error: shown where that is what is measured.
    floor = data.floor if data.metric and data.metric.measures == "squared_error" else None
    moves = bool(data.protocols) and (floor is not None or not all(map(_same, data.protocols)))
    losses = data.series.get("train/loss", [])
    return page(
        "report/templates/run.html.j2",
        data=data,
        lead=_lead(data),
        headline=_stats(data),
        remarks=list(_remarks(data)),
        learning=[] if data.untrained else learning_curves(data, best),
        infinite=sum(not math.isfinite(p.value) for p in losses),
        attempts=attempts_card(data),
        adaptation=adaptation(data.protocols, ways, floor) if moves else "",
        floor="" if floor is None else number(floor),
        divergence=_divergence(data),
        spread=distribution(finest, ways) if finest else "",
        roc=roc_card(data),
        instances=instances_card(main, ways) if main and ways else None,
        tables=[_table(p, own=data.owns(p)) for p in data.protocols],
        learned=learned_cards(data),
        episodes=_episodes(data),
        explained=_explained(data),
        groups=facts(data),
        wide_groups=wide_facts(data),
    )


def _lead(data: RunData) -> str:
    recipe = data.recipe
    if recipe is None:
        return ""
    task = f"{recipe.data.shots}-shot regression"
    if not data.functions:
        task = f"{recipe.data.ways}-way {recipe.data.shots}-shot"
    steps = f"{plural(recipe.outer.steps, 'outer step')} of {plural(recipe.outer.batch, 'task')}"
    steps = "no outer steps" if data.untrained else steps
    return f"{recipe.algorithm.name} on {recipe.data.dataset}, {task}, {steps}"


def _stats(data: RunData) -> list[Stat]:
    if not data.protocols:
        total = f"of {data.recipe.outer.steps:,}" if data.recipe else ""
        status = str(data.info.get("status", "unknown"))
        return [
            Stat(f"{data.steps_done:,}", total, "outer steps done"),
            Stat(status, "", "status of the run"),
        ]
    result: list[Stat] = []
    unseen = "unseen functions" if data.functions else "unseen classes"
    for protocol in data.own[:2]:
        figure = score_ci(protocol.metric, protocol.figure.mean, protocol.figure.ci95)
        after = after_steps(protocol.figure_step, "adaptation step")
        told = (
            f"{protocol.metric.title} on {protocol.episodes:,} {_ways(data, protocol)}test "
            f"episodes of {unseen}{_beside(protocol)}, {queries(protocol)}, {after}"
        )
        result.append(Stat(*figure, told))
    main = data.protocols[0]
    for other in main.further:
        told = f"{other.metric.title} on the same test episodes"
        result.append(Stat(*_other(other, main.figure_step), told))
    if main.figure_step and not _same(main):
        before = score_ci(main.metric, main.steps[0].mean, main.steps[0].ci95)
        result.append(Stat(*before, f"before adaptation, {queries(main)}"))
    if data.untrained:
        return result
    held_out = "validation functions" if data.functions else "validation classes"
    told = f"of {data.steps_done:,}: the checkpoint, chosen on {held_out}, never on test"
    return [*result, Stat(f"step {main.checkpoint_step:,}", "", told)]


def _ways(data: RunData, protocol: StoredEvaluation) -> str:
    """How many classes its tasks have, where that is not as in training."""
    known, recipe = protocol.classes, data.recipe
    differ = known and recipe and known.ways != recipe.data.ways
    return f"{known.ways}-way " if known and differ else ""


def _beside(protocol: StoredEvaluation) -> str:
    """How many classes those are, and the interval that counts them as drawn."""
    if protocol.classes is None:
        return ""
    count = protocol.of_classes.removeprefix(" of ")
    if protocol.scores is None:  # damaged, which is told elsewhere
        return f" ({count})"
    half = _for_new_classes(protocol.metric, protocol.figure)
    told = f"{half} for new classes" if half else SAME_CLASSES
    if tells_nothing(protocol.metric, protocol.figure.ci95_classes):
        told = TOO_FEW
    return f" ({count}; {told})"


def _for_new_classes(metric: Metric, step: StepFigures) -> str:
    """``± 4.9 %``, the interval that counts classes as drawn; empty where there is none."""
    half = step.ci95_classes
    return score_ci(metric, step.mean, half)[1] if math.isfinite(half) else ""


def _remarks(data: RunData) -> Iterator[Note]:
    status = data.info.get("status")
    if status != "finished":
        yield Note(
            _STATUS.get(str(status), f"The state of this run is unknown ({status})."),
            "The figures below are those of its directory at the time of this report.",
            warning=status == "failed",
        )
    # What makes the figures less than they seem.
    if data.recipe and data.recipe.model.norm == "transductive" and not data.without_network:
        yield Note("Transductive normalisation.", _TRANSDUCTIVE, warning=True)
    if data.unverified:
        yield Note("Bits unverified.", _UNVERIFIED, warning=True)
    failed = [p for p in data.protocols if p.failed]
    if failed:
        counts = ", ".join(f"{p.failed} of {p.episodes:,} ({label(p)})" for p in failed)
        metric = failed[0].metric
        how = f"counted with {metric.title} {metric.failed:g}"
        if metric.leaves_out_failed:
            how = "left out of the mean"
        yield Note("Failed episodes.", f"Outputs were not finite in {counts}; {how}.", warning=True)
    for few in dict.fromkeys(p.few_classes for p in data.protocols if p.few_classes):
        told = f"{few}. The interval for new classes counts the classes as drawn, too."
        yield Note("Few classes.", told, warning=True)
    main = data.protocols[0] if data.protocols else None
    others = [p for p in data.protocols if main and p.checkpoint_sha256 != main.checkpoint_sha256]
    if main and others:
        which = "; ".join(f"{label(p)}: step {p.checkpoint_step:,}" for p in others)
        told = (
            f"The figures are of step {main.checkpoint_step:,}, but not all: {which}. Evaluate the "
            "run again under these protocols."
        )
        yield Note("Different checkpoints.", told, warning=True)
    yield from (Note("Not shown.", text, warning=True) for text in data.notes)


def _same(protocol: StoredEvaluation) -> bool:
    """Whether figures are the same after any number of steps, as of a learner that takes none."""
    first = replace(protocol.steps[0], step=0)
    return all(repr(replace(step, step=0)) == repr(first) for step in protocol.steps)


def _divergence(data: RunData) -> list[str]:
    """In words where the curve leaves episodes out, or counts them as wrong."""
    lines = []
    for protocol in data.protocols:
        told = []
        for _, group in itertools.groupby(protocol.steps, key=lambda step: step.failed):
            first, *rest = group
            if first.failed:
                steps = f"steps {first.step} to {rest[-1].step}" if rest else f"step {first.step}"
                told.append(f"{steps}: {diverged(first, protocol.episodes)}")
        if told:
            lines.append(f"{label(protocol)}: {', '.join(told)}.")
    if lines:
        metric = data.protocols[0].metric
        counted = f"Their {metric.title} is {metric.failed:g}."
        left_out = "The curve is the mean over the rest."
        lines.append(left_out if metric.leaves_out_failed else counted)
    return lines


def _table(protocol: StoredEvaluation, *, own: bool) -> tuple[str, list[list[str]], int | None]:
    """What the figures are of, a row for each number of steps below the head, and which of them is
    as in training."""
    metric, further = protocol.metric, protocol.further
    steps = protocol.steps
    columns = [
        ["adaptation steps", *(str(s.step) for s in steps)],
        [
            f"{mean_of(metric)} ± 95 % CI",
            *(" ".join(score_ci(metric, s.mean, s.ci95)) for s in steps),
        ],
    ]
    if protocol.classes:
        columns.append(["95 % CI, new classes", *(_drawn_too(metric, s) for s in steps)])
    if not metric.percent and any(math.isfinite(s.median) for s in steps):
        told = (number(s.median) if math.isfinite(s.median) else "diverged" for s in steps)
        columns.append(["median", *told])
    columns.append(["worst tenth of episodes", *(score(metric, s.worst_decile) for s in steps)])
    columns.append(["query loss", *(number(s.loss) for s in steps)])
    for other in further:
        columns.append([other.metric.title, *(" ".join(_other(other, s.step)) for s in steps)])
    if any(s.failed for s in steps):
        failed = (diverged(s, protocol.episodes) or "none" for s in steps)
        columns.append(["not finite", *failed])
    extra = "" if own else f" ({protocol.name})"
    part = "validation" if protocol.part == "val" else protocol.part
    about = label(protocol).removeprefix("validation, ")
    name = f"{protocol.episodes:,} {part} episodes{protocol.of_classes}, {about}{extra}"
    trained = next((i for i, s in enumerate(steps) if s.step == protocol.trained_steps), None)
    return name, list(map(list, zip(*columns, strict=True))), trained


def _drawn_too(metric: Metric, step: StepFigures) -> str:
    half = _for_new_classes(metric, step) or "none"
    return "too few classes" if tells_nothing(metric, step.ci95_classes) else half


def _other(own: FurtherFigures, step: int) -> tuple[str, str]:
    """A figure of another metric, and its interval where it has one."""
    return score_ci(own.metric, own.mean[step], own.ci95[step])


def _episodes(data: RunData) -> Any:
    """Test episodes to be drawn, or why they cannot be."""
    if data.examples is None:
        return ""
    try:
        return shown_episodes(data.examples, _trained(data))
    except (ValueError, IndexError, TypeError) as error:
        return str(error)


def _explained(data: RunData) -> list[Card] | str:
    """What predictions for these episodes rest on, or why it cannot be drawn."""
    if data.examples is None:
        return []
    try:
        return explanation_cards(data.examples, _trained(data))
    except (ValueError, IndexError, TypeError, KeyError) as error:
        return str(error)


def _trained(data: RunData) -> int:
    """Adaptation steps of training; more than there are where they are not known."""
    return data.protocols[0].trained_steps if data.protocols else 10**9
