"""What finished runs come to: evaluated anew, compared, reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.api.common import Plugins
from metadist.api.result_types import ComparedRun, CompareResult, EvaluationResult, Score
from metadist.driver.directories import data_directory, runs_directory

if TYPE_CHECKING:
    from metadist.compute.device import Device
    from metadist.evaluation.protocols import EvalPart
    from metadist.objectives import Metric


def evaluate(
    run: str | Sequence[str],
    *,
    part: EvalPart = "test",
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    steps: int | None = None,
    episodes: int | None = None,
    seed: int | None = None,
    average: str | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: Device = "auto",
    plugins: Plugins = (),
) -> EvaluationResult:
    """Evaluate a run's best checkpoint anew, or those of several runs as an ensemble.

    Without more arguments than the run, its recipe's own protocols are repeated. Otherwise the
    results have files of their own, named by what differs (``evaluation/test-5shot-10q.json``).

    Args:
        run: a run; or several, as a list: each adapts to the same episodes and their predictions
            are averaged. They must be of the same data and ``eval.seed``.
        part: ``test`` or ``val``: whose classes or functions.
        ways: classes of an episode, of a learner whose parameters do not depend on their number.
        shots, queries: support and query examples per class (points of a function). These, ways,
            episodes and adaptation steps are as the recipe says if not given.
        steps: adaptation steps; the figure is then the one after so many.
        seed: of the episodes; the recipe's ``eval.seed`` if not given.
        average: what an ensemble averages, as its objective can: of classifiers ``probabilities``
            (if None) or ``logits``.
        out: directory of an ensemble's results; under ``<runs_dir>/ensembles`` if not given.
        plugins: those that the run was made with; see :func:`train`. Another source than the
            run's is told of by a warning.

    Returns:
        An :class:`EvaluationResult`. Its items, of a run: run, steps, params_sha256, accuracy (or
        mse), ci95, episodes, failed, best_step. Of an ensemble: ensemble, average, accuracy (or
        mse), ci95, episodes, failed, members, directory. Of both: ``protocols``, which maps names
        to figures after every step; and of images ``ways``, ``classes`` (how many the part has),
        ``turned_classes`` if their turns are classes too, and ``ci95_classes``, the half-width over
        new classes and episodes; None if all episodes are of the same classes.

    Raises:
        RunError: no such run, no good checkpoint, a plugin of the run is missing, runs that do
            not go together, a protocol that is none, or other ways of a learner whose parameters
            depend on their number.
        DataError: the data are missing, damaged or others than the run's.
    """
    from data_pipeline.storage.typed_paths import typed_path
    from metadist import plugins as outside
    from metadist.compute.device import local_device
    from metadist.errors import RunError
    from metadist.evaluation import ensembles
    from metadist.evaluation.protocols import EvalRequest
    from metadist.evaluation.trained_run import TrainedRun
    from metadist.runs.listing import open_run
    from metadist.runs.readers.plugins import sources_of

    asked = EvalRequest(part, shots, queries, steps, episodes, seed, ways)
    root, alone = runs_directory(runs_dir), isinstance(run, str)
    if alone and (average is not None or out is not None):
        raise RunError("average and out are about ensembles: name several runs, or leave them out")
    with outside.use(plugins):
        runs = []
        for name in [run] if isinstance(run, str) else run:
            directory = open_run(root, name)
            outside.require(directory.path, directory.info(), warn=True)
            place = data_directory(data_dir), local_device(device)
            runs.append(TrainedRun.load(directory, *place))
        ways = runs[0].run.recipe().data.ways if runs else 0
        if alone:
            record = runs[0].evaluate(asked)
            code = sources_of(runs[0].run.info().get("plugins", {}))
            return _evaluation(record, record["run"], runs[0].run.path, ways, code)
        members = ensembles.Ensemble(tuple(one.member() for one in runs))
        where = typed_path(out).resolve() if out else root / ensembles.FOLDER / members.name
        ensembles.check_directory(where, members)
        together = ensembles.evaluate_ensemble(members, asked, average)
        ensembles.write_ensemble(where, members, together)
        record = {**ensembles.result_of(members, together), "directory": str(where)}
        return _evaluation(record, record["ensemble"], where, ways)


def _evaluation(
    record: dict[str, Any], name: str, directory: Path, ways: int, code: Sequence[str] = ()
) -> EvaluationResult:
    from metadist.runs.readers.evaluations import read_further, read_metric

    main = next(iter(record["protocols"].values()))
    metric, step = read_metric(main), main["figure_step"]
    return EvaluationResult.of(
        record,
        name=name,
        directory=directory,
        score=Score.read(metric, record),
        further=tuple(Score.further(own, step) for own in read_further(main)),
        trained_ways=ways,
        plugins=tuple(code),
        members=tuple(record.get("members", ())),
    )


def report(run: str, *, runs_dir: str | Path = "runs") -> Path:
    """Write a run's report and return its path.

    Raises:
        RunError: no such run.
    """
    from metadist.report import write_report
    from metadist.runs.listing import open_run

    directory = open_run(runs_directory(runs_dir), run)
    page = write_report(directory)
    directory.push_report()
    return page


def compare(
    runs: Sequence[str] = (),
    *,
    experiment: str | None = None,
    filter: str | None = None,
    baseline: str | None = None,
    protocol: str | None = None,
    metric: str | None = None,
    html: str | Path | None = None,
    csv: str | Path | None = None,
    runs_dir: str | Path = "runs",
    tracking_uri: str | None = None,
) -> CompareResult:
    """Compare finished runs: what differs, their figures, paired differences, what they cost.

    Args:
        runs: at least two, by name or path; or none and
        experiment: all finished runs of this MLflow experiment, the oldest first; and
        filter: those alone that fit, in MLflow's language (``params.`inner.lr` = '0.4'``); of
            the experiment ``metadist`` if none is named.
        baseline: the run that the others are compared with, episode by episode; the first if not
            given.
        protocol: the evaluation to compare (``test-15q``); the first that all runs have if not
            given.
        metric: of each episode, to compare by (``mse``); the one that decides if not given, which
            must then be the same of all runs.
        html, csv: files to write: a page, and a table with a row for each run.
        tracking_uri: of the MLflow store that knows the experiment; see :func:`train`.

    Returns:
        A :class:`CompareResult`. Its items: protocol, part, score, better (``higher`` or
        ``lower``), baseline, ``ranked`` (more than twelve runs stand in the order of their
        figures), ``runs``, ``differences`` (field -> run -> value) and ``left_out`` (runs of the
        experiment that are not compared, and why). Each of the runs has accuracy (or mse), ci95,
        ways, classes and ci95_classes of images (None if they were not recorded), episodes, failed,
        best_step, steps, tasks, seconds and worker_seconds of training, parameters,
        derivative_order, its validation scores, and ``difference``: None of the baseline; else mean
        (this run minus the baseline), ci95, episodes, left_out and verdict (``better``, ``worse``,
        ``within noise``), of images ci95_classes and verdict_classes, or ``not_paired``, the reason
        why there is none.

    Raises:
        RunError: fewer than two runs; a named one is missing, damaged or not finished; the runs
            share no protocol or do not measure the same.
        TrackingError: the store or the experiment is not there, or the filter is none.
    """
    from metadist.comparison import compare_runs, phrases, write_files

    root = runs_directory(runs_dir)
    found = compare_runs(
        root,
        [runs] if isinstance(runs, str) else runs,
        experiment=experiment,
        filter_string=filter,
        baseline=baseline,
        protocol=protocol,
        metric=metric,
        tracking_uri=tracking_uri,
    )
    write_files(found, html, csv)
    by = phrases.metric(found)
    return CompareResult.of(
        found,
        metric=by,
        runs=tuple(_compared(run, by) for run in found["runs"]),
        left_out=tuple(found["left_out"]),
    )


def _compared(run: dict[str, Any], metric: Metric) -> ComparedRun:
    from metadist.comparison import phrases

    apart = run["difference"] or {}
    paired = apart.get("mean") is not None
    return ComparedRun(
        run=run["run"],
        directory=Path(run["path"]),
        score=Score.read(metric, run),
        difference=Score(metric.name, apart["mean"], apart["ci95"], metric) if paired else None,
        verdict=phrases.verdict(run),
    )
