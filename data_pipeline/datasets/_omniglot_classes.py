"""What Omniglot consists of, and how its characters are divided.

Facts about the published collection: 50 alphabets, 1,623 characters, each drawn by 20 people.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

from data_pipeline.datasets import Part
from data_pipeline.datasets._holdout import hold_out_tenth
from data_pipeline.rng import Stream, fold

#: People who drew every character once.
DRAWERS = 20


class Alphabet(NamedTuple):
    """One alphabet.

    Attributes:
        published: the set it is in.
        first: number of its first character.
        by_character, by_drawer: fingerprints, see the table.
    """

    published: str
    first: int
    name: str
    by_character: tuple[str, ...]
    by_drawer: tuple[str, ...]

    @property
    def characters(self) -> int:
        """How many it has."""
        return len(self.by_character)

    def class_name(self, character: int) -> str:
        """``Alphabet/characterNN``; characters count from 1."""
        return f"{self.name}/character{character:02d}"

    def path(self, character: int, drawer: int) -> str:
        """Where the original archives hold a drawing; drawers count from 1."""
        number = self.first + character - 1
        return f"images_{self.published}/{self.class_name(character)}/{number:04d}_{drawer:02d}.png"


def _alphabet(line: str) -> Alphabet:
    published, first, name, *prints = line.split()
    dash = prints.index("-")
    return Alphabet(published, int(first), name, tuple(prints[:dash]), tuple(prints[dash + 1 :]))


_TABLE = resources.files(__package__).joinpath("_omniglot_fingerprints.txt").read_text("utf-8")
ALPHABETS = tuple(_alphabet(line) for line in _TABLE.splitlines() if not line.startswith("#"))

# Vinyals et al. 2016: 1,028 characters for training, 172 for validation, 423 for test.
_VINYALS_VAL = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
_VINYALS_TEST = [a.name for a in ALPHABETS if a.published == "evaluation" and a.name >= "Kannada"]
# One alphabet is divided: its characters from here on are test characters.
_VINYALS_DIVIDED = ("Gurmukhi", 42)


def split_classes(split: str) -> dict[Part, list[str]]:
    """Class names of each part of a split, sorted.

    ``vinyals`` is published with validation characters. ``lake`` (background for training,
    evaluation for test) and ``random1200`` (1,200 characters drawn once, the other 423 for test)
    are not: a frozen tenth of their training characters is held out.
    """
    if split == "vinyals":
        parts: dict[Part, list[str]] = {"train": [], "val": [], "test": []}
        for alphabet in ALPHABETS:
            for character in range(1, alphabet.characters + 1):
                part = _vinyals_part(alphabet.name, character)
                parts[part].append(alphabet.class_name(character))
        return {part: sorted(classes) for part, classes in parts.items()}
    if split == "lake":
        train = _all_classes("background")
        test = _all_classes("evaluation")
    else:
        every = sorted(_all_classes("background") + _all_classes("evaluation"))
        chosen = set(Stream(fold("omniglot", "random1200")).sample(len(every), 1200))
        train = [name for i, name in enumerate(every) if i in chosen]
        test = [name for i, name in enumerate(every) if i not in chosen]
    train, val = hold_out_tenth(train, f"omniglot/{split}")
    return {"train": train, "val": val, "test": sorted(test)}


def _vinyals_part(alphabet: str, character: int) -> Part:
    name, first_test = _VINYALS_DIVIDED
    if alphabet in _VINYALS_VAL:
        return "val"
    if alphabet in _VINYALS_TEST or (alphabet == name and character >= first_test):
        return "test"
    return "train"


def _all_classes(published: str) -> list[str]:
    return [
        alphabet.class_name(character)
        for alphabet in ALPHABETS
        if alphabet.published == published
        for character in range(1, alphabet.characters + 1)
    ]
