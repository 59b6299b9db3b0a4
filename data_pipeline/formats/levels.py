"""How much of the range from black to white images use, and which part of it is read."""

from __future__ import annotations

import re

from PIL.Image import Image

from data_pipeline.errors import DataError, listed
from data_pipeline.formats.samples import ALL_LEVELS, MOST, Levels, Samples

#: Images that use at most this part of the range come out almost uniform: 14 bits in files of 16.
_SMALL = 4
_EIGHT = MOST // 255


def parsed(text: str) -> Levels:
    """The levels that an option names: ``full``, or ``LOW-HIGH`` among samples of 16 bits.

    Raises:
        DataError: it is neither.
    """
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text, re.ASCII)
    levels = (int(match[1]), int(match[2])) if match else ALL_LEVELS
    if text != "full" and not (match and levels[0] < levels[1] <= MOST):
        raise DataError(
            f"range must be 'full', 'set' (what the images use) or LOW-HIGH, as 0-4095, with LOW "
            f"below HIGH and at most {MOST} (samples of 8 bits count {_EIGHT}-fold), got {text!r}"
        )
    return levels


class Used:
    """The range that images use, by class and depth: files of another depth are of another origin.

    Args:
        levels: what is read as black and as white.
    """

    def __init__(self, levels: Levels = ALL_LEVELS) -> None:
        self._levels = levels
        self._of: dict[str, Levels] = {}

    def add(self, class_name: str, samples: Samples) -> None:
        """Take an image into account."""
        name = (
            class_name if isinstance(samples.stored, Image) else f"{class_name}, files of 16 bits"
        )
        if extent := samples.extent():
            self._of[name] = _joined(extent, self._of.get(name, extent))

    @property
    def whole(self) -> Levels | None:
        """The smallest and the largest sample of all images; None if there was none to see."""
        extents = list(self._of.values())
        return (min(e[0] for e in extents), max(e[1] for e in extents)) if extents else None

    def warning(self, where: str, cure: str) -> str:
        """What is odd about it, in words; empty if nothing is.

        Args:
            where: what holds the images.
            cure: what helps if all of them use little of the range.
        """
        whole = self.whole
        if whole is None:
            return ""
        lie = f"{self._words(whole)}, where {self._words(self._levels)} is read"
        if self._little(whole):
            return f"{where}: all images use {lie}, and come out almost uniform. {cure}"
        if _joined(whole, self._levels) != self._levels:
            return f"{where}: the images use {lie}; what lies outside comes out black or white"
        few = [f"{n} ({self._words(used)})" for n, used in self._of.items() if self._little(used)]
        if not few:
            return ""
        return (
            f"{where}: the images use {lie}, but some classes less, and come out almost uniform: "
            f"{listed(few)}. All images are read alike: if these differ from the others by their "
            "files alone, bring the files to the range of the others"
        )

    def _words(self, levels: Levels) -> str:
        """Numbers as they stand in the files, as far as that can be told."""
        ends = [*levels, *self._levels, *(end for used in self._of.values() for end in used)]
        scale = 1 if any(end % _EIGHT for end in ends) else _EIGHT
        return f"{levels[0] // scale} to {levels[1] // scale}"

    def _little(self, used: Levels) -> bool:
        low, high = self._levels
        return (min(used[1], high) - max(used[0], low)) * _SMALL <= high - low + 1


def _joined(one: Levels, other: Levels) -> Levels:
    return min(one[0], other[0]), max(one[1], other[1])
