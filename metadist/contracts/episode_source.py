"""What a source of episodes is held to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline import episode_sources
from data_pipeline.datasets import PARTS, Part
from data_pipeline.episode_sources import SourceSpec
from data_pipeline.episodes.sources import open_source
from data_pipeline.episodes.staged import StagedSource
from data_pipeline.episodes.types import EpisodeSource, EpisodeSpec
from data_pipeline.errors import DataError
from metadist.contracts import documentation
from metadist.contracts.finding import Finding, Inspection, found
from metadist.contracts.purity import impure
from metadist.overrides import Scalar

#: Tasks of classes and of values; one of them at least can be drawn.
SPECS = (EpisodeSpec(5, 2, 3), EpisodeSpec(0, 5, 7))


@dataclass(frozen=True)
class Drawn:
    """A source of episodes of a part."""

    name: str
    part: Part
    spec: EpisodeSpec

    def open(self, part: Part | None = None, queries: int = 0) -> EpisodeSource | StagedSource:
        """The source, also of another part or with other numbers of queries."""
        spec = replace(self.spec, queries=queries or self.spec.queries)
        return open_source(self.name, part or self.part, spec, 1)

    def first_support(self, part: Part | None = None, queries: int = 0) -> NDArray[Any] | None:
        """The support inputs of its first episode; None of a staged source."""
        source = self.open(part, queries)
        if isinstance(source, StagedSource):
            return None
        return source.episodes([0]).columns["support_x"]


def spec(module: episode_sources.SourceModule) -> Iterator[Finding]:
    """``SPEC`` says all that is shown and recorded."""
    own: Any = module.SPEC
    if not isinstance(module.SPEC, SourceSpec):
        yield found("SPEC, a SourceSpec", repr(own), "see data_pipeline.episode_sources.SourceSpec")
        return
    if not own.summary:
        yield found("SPEC.summary, not empty", repr(own.summary), "say it in one line")
    if not isinstance(own.version, int) or own.version < 1:
        yield found("SPEC.version, 1 or more", repr(own.version), "raise it with any change")


def episodes(drawn: Drawn) -> Iterator[Finding]:
    """They are as the schema says, pure, finite, and others in another part."""
    try:
        source = drawn.open()
    except DataError as error:
        # What opening looks at: identity, columns, and that an episode is the same drawn again.
        yield found("a source that keeps its contract", error, "see the page add-a-dataset")
        return
    if isinstance(source, StagedSource):
        return
    yield from impure("episodes", lambda: source.episodes([3, 1]).arrays(), (), source)
    batch = source.episodes(range(8))
    for name, column in batch.columns.items():
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            yield found(f"finite numbers of {name}", "NaN or infinity", "look at what draws it")
    if drawn.spec.ways:
        y = batch.columns["support_y"]
        if y.dtype == np.int64 and any(len(np.unique(row)) != drawn.spec.ways for row in y):
            yield found(
                f"support examples of each of {drawn.spec.ways} ways, labels from 0",
                f"labels {np.unique(y).tolist()}",
                "draw spec.shots examples of each way",
            )


def queries(drawn: Drawn) -> Iterator[Finding]:
    """Support examples do not depend on how many queries are asked for."""
    few, many = (drawn.first_support(queries=number) for number in (3, 6))
    if few is not None and many is not None and not np.array_equal(few, many):
        yield found(
            "the same support examples with more queries",
            "others",
            "draw support and queries from streams of their own",
            "warning",
        )


def parts_differ(drawn: Drawn) -> Iterator[Finding]:
    """Validation and test episodes are not those of training."""
    other = PARTS[(PARTS.index(drawn.part) + 1) % len(PARTS)]
    here, there = drawn.first_support(), drawn.first_support(other)
    if here is not None and there is not None and np.array_equal(here, there):
        yield found(
            f"other episodes in {other} than in {drawn.part}",
            "the same",
            "fold part into the key: fold('name', part, seed)",
        )


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a source."""
    module = episode_sources.load(name)
    inspection.run((documentation.docstring, spec), module)  # type: ignore[arg-type]
    refused = []
    for shape in SPECS:
        try:
            module.open("train", shape, 1)
        except DataError as error:
            refused.append(str(error))
            continue
        # It is told by the checks, with the line.
        except Exception:
            pass
        for part in PARTS:
            on = f"part {part!r}, {f'{shape.ways} ways' if shape.ways else 'values'}"
            drawn = Drawn(name, part, shape)
            inspection.run((episodes, queries, parts_differ), drawn, on)
    if len(refused) == len(SPECS):
        nothing = found(
            "episodes of 5 ways with 2 shots, or of values with 5",
            f"neither: {'; '.join(refused)}",
            "see what open refuses",
        )
        inspection.tell("draws something", [nothing])
