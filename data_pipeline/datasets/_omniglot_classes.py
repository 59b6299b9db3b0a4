"""What Omniglot consists of, and how its characters are divided.

Facts about the published collection: 50 alphabets, 1,623 characters, each drawn by 20 people.
"""

from __future__ import annotations

from typing import NamedTuple

from data_pipeline.datasets import Part
from data_pipeline.datasets._holdout import hold_out_tenth
from data_pipeline.rng import Stream, fold

#: People who drew every character once.
DRAWERS = 20


class Alphabet(NamedTuple):
    """One alphabet: its published set, name, number of characters and number of the first."""

    published: str
    name: str
    characters: int
    first: int

    def class_name(self, character: int) -> str:
        """``Alphabet/characterNN``; characters count from 1."""
        return f"{self.name}/character{character:02d}"

    def path(self, character: int, drawer: int) -> str:
        """Where the original archives hold a drawing; drawers count from 1."""
        number = self.first + character - 1
        return f"images_{self.published}/{self.class_name(character)}/{number:04d}_{drawer:02d}.png"


ALPHABETS = (
    Alphabet("background", "Alphabet_of_the_Magi", 20, 709),
    Alphabet("background", "Anglo-Saxon_Futhorc", 29, 296),
    Alphabet("background", "Arcadian", 26, 1),
    Alphabet("background", "Armenian", 41, 27),
    Alphabet("background", "Asomtavruli_(Georgian)", 40, 68),
    Alphabet("background", "Balinese", 24, 108),
    Alphabet("background", "Bengali", 46, 132),
    Alphabet("background", "Blackfoot_(Canadian_Aboriginal_Syllabics)", 14, 178),
    Alphabet("background", "Braille", 26, 192),
    Alphabet("background", "Burmese_(Myanmar)", 34, 770),
    Alphabet("background", "Cyrillic", 33, 218),
    Alphabet("background", "Early_Aramaic", 22, 251),
    Alphabet("background", "Futurama", 26, 325),
    Alphabet("background", "Grantha", 43, 351),
    Alphabet("background", "Greek", 24, 394),
    Alphabet("background", "Gujarati", 48, 418),
    Alphabet("background", "Hebrew", 22, 466),
    Alphabet("background", "Inuktitut_(Canadian_Aboriginal_Syllabics)", 16, 540),
    Alphabet("background", "Japanese_(hiragana)", 52, 488),
    Alphabet("background", "Japanese_(katakana)", 47, 596),
    Alphabet("background", "Korean", 40, 643),
    Alphabet("background", "Latin", 26, 683),
    Alphabet("background", "Malay_(Jawi_-_Arabic)", 40, 556),
    Alphabet("background", "Mkhedruli_(Georgian)", 41, 729),
    Alphabet("background", "N_Ko", 33, 804),
    Alphabet("background", "Ojibwe_(Canadian_Aboriginal_Syllabics)", 14, 837),
    Alphabet("background", "Sanskrit", 42, 851),
    Alphabet("background", "Syriac_(Estrangelo)", 23, 273),
    Alphabet("background", "Tagalog", 17, 893),
    Alphabet("background", "Tifinagh", 55, 910),
    Alphabet("evaluation", "Angelic", 20, 965),
    Alphabet("evaluation", "Atemayar_Qelisayer", 26, 985),
    Alphabet("evaluation", "Atlantean", 26, 1011),
    Alphabet("evaluation", "Aurek-Besh", 26, 1037),
    Alphabet("evaluation", "Avesta", 26, 1063),
    Alphabet("evaluation", "Ge_ez", 26, 1089),
    Alphabet("evaluation", "Glagolitic", 45, 1115),
    Alphabet("evaluation", "Gurmukhi", 45, 1160),
    Alphabet("evaluation", "Kannada", 41, 1205),
    Alphabet("evaluation", "Keble", 26, 1246),
    Alphabet("evaluation", "Malayalam", 47, 1272),
    Alphabet("evaluation", "Manipuri", 40, 1319),
    Alphabet("evaluation", "Mongolian", 30, 1359),
    Alphabet("evaluation", "Old_Church_Slavonic_(Cyrillic)", 45, 1389),
    Alphabet("evaluation", "Oriya", 46, 1434),
    Alphabet("evaluation", "Sylheti", 28, 1503),
    Alphabet("evaluation", "Syriac_(Serto)", 23, 1480),
    Alphabet("evaluation", "Tengwar", 25, 1531),
    Alphabet("evaluation", "Tibetan", 42, 1556),
    Alphabet("evaluation", "ULOG", 26, 1598),
)

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
