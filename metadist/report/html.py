"""The report of a run: one HTML file that needs nothing else, with all text escaped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from html import escape

from metadist.objectives import Metric
from metadist.report.document import document, figure, note, stat
from metadist.report.figures import adaptation, distribution, learning_curves
from metadist.report.phrases import after_steps, diverged, label, plural, queries
from metadist.report.sections.attempts import attempts_section
from metadist.report.sections.diagnostics import learned_section
from metadist.report.sections.episodes import EPISODES, draw_episodes
from metadist.report.sections.facts import facts_section
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
_LEARNING = (
    "Faint: each outer step on its training tasks; dashed: validation tasks, which choose the "
    "checkpoint."
)
_SPREAD = "How many test episodes have which score: a narrow bulk is a learner one can rely on."
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
    best = data.protocols[0].checkpoint_step if data.protocols else None
    sections = [
        _header(data),
        _notes(data),
        _learning(data, best),
        attempts_section(data),
        _adaptation(data, ways),
        learned_section(data),
        _episodes(data),
        facts_section(data),
        "<footer>Written by metadist from the run directory alone. "
        "Intervals are 95 % confidence intervals of the mean over episodes; those for new classes "
        "count the classes of the episodes as drawn, too.</footer>",
    ]
    return document(f"{data.name} · metadist report", "".join(sections))


def _header(data: RunData) -> str:
    recipe = data.recipe
    lead = ""
    if recipe:
        task = (
            f"{recipe.data.shots}-shot regression"
            if data.functions
            else f"{recipe.data.ways}-way {recipe.data.shots}-shot"
        )
        steps = (
            f"{plural(recipe.outer.steps, 'outer step')} of {plural(recipe.outer.batch, 'task')}"
        )
        lead = (
            f'<p class="lead">{escape(recipe.algorithm.name)} on {escape(recipe.data.dataset)}, '
            f"{task}, {'no outer steps' if data.untrained else steps}</p>"
        )
    stats = "".join(_stats(data))
    return f"""<header>
<p class="eyebrow">Run report</p>
<h1>{escape(data.name)}</h1>
{lead}
<div class="stats">{stats}</div>
</header>
"""


def _stats(data: RunData) -> list[str]:
    if not data.protocols:
        total = f"of {data.recipe.outer.steps:,}" if data.recipe else ""
        status = str(data.info.get("status", "unknown"))
        return [
            stat(f"{data.steps_done:,}", total, "outer steps done", first=True),
            stat(status, "", "status of the run"),
        ]
    result: list[str] = []
    unseen = "unseen functions" if data.functions else "unseen classes"
    for protocol in data.own[:2]:
        value, unit = score_ci(protocol.metric, protocol.figure.mean, protocol.figure.ci95)
        after = after_steps(protocol.figure_step, "adaptation step")
        result.append(
            stat(
                value,
                unit,
                f"{protocol.metric.title} on {protocol.episodes:,} {_ways(data, protocol)}test "
                f"episodes of {unseen}"
                f"{_beside(protocol)}, "
                f"{queries(protocol)}, {after}",
                first=not result,
            )
        )
    main = data.protocols[0]
    for other in main.further:
        value, unit = _other(other, main.figure_step)
        result.append(stat(value, unit, f"{other.metric.title} on the same test episodes"))
    if main.figure_step and not _same(main):
        before = main.steps[0]
        value, unit = score_ci(main.metric, before.mean, before.ci95)
        result.append(stat(value, unit, f"before adaptation, {queries(main)}"))
    if data.untrained:
        return result
    held_out = "validation functions" if data.functions else "validation classes"
    told = f"of {data.steps_done:,}: the checkpoint, chosen on {held_out}, never on test"
    return [*result, stat(f"step {main.checkpoint_step:,}", "", told)]


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


def _notes(data: RunData) -> str:
    state = ""
    status = data.info.get("status")
    if status != "finished":
        state = note(
            _STATUS.get(str(status), f"The state of this run is unknown ({status})."),
            "The figures below are those of its directory at the time of this report.",
            warning=status == "failed",
        )
    return state + "".join(note(title, text, warning=True) for title, text in _warnings(data))


def _warnings(data: RunData) -> Iterator[tuple[str, str]]:
    """What makes the figures less than they seem: titles and texts."""
    if data.recipe and data.recipe.model.norm == "transductive" and not data.without_network:
        yield "Transductive normalisation.", _TRANSDUCTIVE
    if data.unverified:
        yield "Bits unverified.", _UNVERIFIED
    failed = [p for p in data.protocols if p.failed]
    if failed:
        counts = ", ".join(f"{p.failed} of {p.episodes:,} ({label(p)})" for p in failed)
        metric = failed[0].metric
        how = f"counted with {metric.title} {metric.failed:g}"
        if metric.leaves_out_failed:
            how = "left out of the mean"
        yield "Failed episodes.", f"Outputs were not finite in {counts}; {how}."
    for few in dict.fromkeys(p.few_classes for p in data.protocols if p.few_classes):
        told = f"{few}. The interval for new classes counts the classes as drawn, too."
        yield "Few classes.", told
    main = data.protocols[0] if data.protocols else None
    others = [p for p in data.protocols if main and p.checkpoint_sha256 != main.checkpoint_sha256]
    if main and others:
        which = "; ".join(f"{label(p)}: step {p.checkpoint_step:,}" for p in others)
        told = (
            f"The figures are of step {main.checkpoint_step:,}, but not all: {which}. Evaluate the "
            "run again under these protocols."
        )
        yield "Different checkpoints.", told
    yield from (("Not shown.", text) for text in data.notes)


def _learning(data: RunData, best: int | None) -> str:
    if data.untrained:
        return "<h2>Learning</h2><p>This learner does not meta-learn: no outer steps.</p>"
    figures = learning_curves(data, best)
    if not figures:
        return "<h2>Learning</h2><p>No points in the log yet.</p>"
    cards = "".join(figure(svg, _LEARNING) for svg in figures)
    infinite = sum(not math.isfinite(p.value) for p in data.series.get("train/loss", []))
    note = f"<p>{infinite:,} steps without a finite loss are left out.</p>" if infinite else ""
    return f'<h2>Learning</h2><div class="grid">{cards}</div>{note}\n'


def _adaptation(data: RunData, ways: int) -> str:
    title = "<h2>Adaptation to unseen tasks</h2>"
    if not data.protocols:
        return f"{title}<p>No evaluation on test episodes yet: it follows the last outer step.</p>"
    finest = max(data.own, key=lambda p: (p.scores is not None, p.queries))
    spread = distribution(finest, ways)
    cards = ""
    if not all(map(_same, data.protocols)) or _floor(data) is not None:
        svg, aid = adaptation(data.protocols, ways, _floor(data)), _reading_aid(data)
        told = f"<figcaption>{aid}{_divergence(data)}</figcaption>"
        cards = f'<figure class="card">{svg}{told}</figure>'
    if spread:
        cards += figure(spread, _SPREAD)
    tables = "".join(_table(p, own=data.owns(p), open=not i) for i, p in enumerate(data.protocols))
    return f'{title}<div class="grid">{cards}</div>\n{tables}'


def _same(protocol: StoredEvaluation) -> bool:
    """Whether figures are the same after any number of steps, as of a learner that takes none."""
    first = replace(protocol.steps[0], step=0)
    return all(repr(replace(step, step=0)) == repr(first) for step in protocol.steps)


def _floor(data: RunData) -> float | None:
    """The zero-shot floor, which is a squared error, where that is what is measured."""
    return data.floor if data.metric and data.metric.measures == "squared_error" else None


def _reading_aid(data: RunData) -> str:
    """How to read the curve of adaptation."""
    text = "Mean over episodes with its 95 % interval, after each step on the support set."
    if (floor := _floor(data)) is not None:
        text += (
            f" Zero-shot floor: {number(floor)}, the error that no predictor can be below, but by "
            "chance, which knows neither the support nor the function's parameters."
        )
    return escape(text)


def _divergence(data: RunData) -> str:
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
            lines.append(escape(f"{label(protocol)}: {', '.join(told)}."))
    if not lines:
        return ""
    metric = data.protocols[0].metric
    counted = f"Their {metric.title} is {metric.failed:g}."
    lines.append(
        "The curve is the mean over the rest." if metric.leaves_out_failed else escape(counted)
    )
    return "".join(f"<br>{line}" for line in lines)


def _table(protocol: StoredEvaluation, *, own: bool, open: bool) -> str:
    metric, further = protocol.metric, protocol.further
    medians = not metric.percent and any(math.isfinite(s.median) for s in protocol.steps)
    failures = any(s.failed for s in protocol.steps)
    rows = []
    for step in protocol.steps:
        value, unit = score_ci(metric, step.mean, step.ci95)
        worst = score(metric, step.worst_decile)
        half = _for_new_classes(metric, step) or "none"
        half = "too few classes" if tells_nothing(metric, step.ci95_classes) else half
        marked = ' class="trained"' if step.step == protocol.trained_steps else ""
        middle = number(step.median) if math.isfinite(step.median) else "diverged"
        rows.append(
            f"<tr{marked}><td>{step.step}</td><td>{escape(f'{value} {unit}')}</td>"
            + (f"<td>{half}</td>" if protocol.classes else "")
            + (f"<td>{middle}</td>" if medians else "")
            + f"<td>{escape(worst)}</td><td>{number(step.loss)}</td>"
            + "".join(f"<td>{escape(' '.join(_other(o, step.step)))}</td>" for o in further)
            + (f"<td>{diverged(step, protocol.episodes) or 'none'}</td>" if failures else "")
            + "</tr>"
        )
    extra = "" if own else f" ({protocol.name})"
    part = "validation" if protocol.part == "val" else protocol.part
    about = label(protocol).removeprefix("validation, ")
    name = f"{protocol.episodes:,} {part} episodes{protocol.of_classes}, {about}{extra}"
    drawn_too = "<th>95 % CI, new classes</th>" if protocol.classes else ""
    median = "<th>median</th>" if medians else ""
    failed = "<th>not finite</th>" if failures else ""
    others = "".join(f"<th>{escape(own.metric.title)}</th>" for own in further)
    return f"""<details class="card"{" open" if open else ""}>
<summary>{escape(name)}</summary>
<div class="scroll"><table>
<thead><tr><th>adaptation steps</th><th>{escape(mean_of(metric))} ± 95 % CI</th>{drawn_too}{median}
<th>worst tenth of episodes</th><th>query loss</th>{others}{failed}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div></details>
"""


def _other(own: FurtherFigures, step: int) -> tuple[str, str]:
    """A figure of another metric, and its interval where it has one."""
    return score_ci(own.metric, own.mean[step], own.ci95[step])


def _episodes(data: RunData) -> str:
    title = "<h2>Test episodes</h2>"
    if data.examples is None:
        return f"{title}<p>No test episodes are kept in this run directory yet.</p>"
    trained = data.protocols[0].trained_steps if data.protocols else 10**9
    shown = min(EPISODES, len(data.examples["ids"]))
    try:
        drawn = draw_episodes(data.examples, trained)
    except (ValueError, IndexError, TypeError) as error:
        return f"{title}<p>The kept episodes cannot be drawn: {escape(str(error))}.</p>"
    return f"""{title}
<p>The first {shown} of the test episodes, not chosen by their result.</p>
{drawn}
"""
