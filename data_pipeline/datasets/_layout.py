"""Which part and which class a folder of images stands for, by the names of the folders above it.

``train/owl``, ``Training Images/owl``, ``birds/train/owl`` and ``owl/train`` are all the class owl
of train. Few-shot learning is tested on classes that were never trained on, so a class that might
stand in two parts is refused rather than counted as two.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipeline.datasets import PARTS, Part
from data_pipeline.errors import DataError

LAYOUT = "FOLDER/<class>/<image>, or FOLDER/{train,val,test}/<class>/<image>"
_WORDS: dict[Part, str] = {
    "train": "train|training|trn|tr",
    "val": "val|valid|validation|validate|validating|dev|devel|development|eval|evaluation",
    "test": "test|testing|tests|tst|ts|te",
}
#: A word that names a part, alone or run together: ``trainset``, ``metatest``, ``val2017``.
_NAMED = {
    part: re.compile(rf"(meta)?({words})(set|data|dataset|split|images?|imgs?)?\d*")
    for part, words in _WORDS.items()
}
#: Words beside it that say nothing.
_FILLERS = {"set", "data", "dataset", "split", "folder", "image", "images", "img", "imgs", "photos"}
_PATHS = "`--option class_names=paths`"


class Place(NamedTuple):
    """What a folder stands for: its class and, where folders name the parts, its part."""

    part: Part | None
    class_name: str


def part_named(name: str) -> Part | None:
    """The part that a folder's name speaks of, in any spelling; None if of none or of several."""
    found: set[Part] = {p for p in PARTS if any(_NAMED[p].fullmatch(word) for word in _words(name))}
    return found.pop() if len(found) == 1 else None


def places(root: Path, folders: Mapping[str, Sequence[str]], class_names: str) -> dict[str, Place]:
    """What each folder stands for.

    Args:
        root: the folder they lie in; for error messages.
        folders: those that hold images, with the images, relative to it.
        class_names: ``distinct``: names of folders must differ; ``paths``: a class is its path,
            and need not differ from others in the last name.

    Raises:
        DataError: some folders name parts and some do not, a part is missing or there twice, an
            image lies in no class, or a class might stand in two places.
    """
    split = {folder: tuple(folder.split("/")) for folder in folders}
    depth = _depth_of_parts(split.values())
    if depth is None:
        found = {folder: Place(None, folder) for folder in split}
    else:
        _check_parts(root, depth, split.values())
        if depth == 0 or any(len(names) > depth + 1 for names in split.values()):
            for folder, images in folders.items():
                if folder.count("/") == depth:
                    raise DataError(f"{root / images[0]}: lies in no class; {LAYOUT} is expected")
        single = len({names[:depth] for names in split.values()}) == 1
        found = {folder: _place(names, depth, single) for folder, names in split.items()}
    _check_distinct(root, found, class_names)
    return found


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    return [word for word in re.split(r"[\W_]+", spaced.casefold()) if word]


def _says_nothing_else(name: str) -> bool:
    """Whether a name speaks of a part and of nothing else: ``tr`` may be a language."""
    words = [word for word in _words(name) if word not in _FILLERS and not word.isdigit()]
    return len(words) == 1 and len(words[0]) > 3


def _depth_of_parts(folders: Collection[tuple[str, ...]]) -> int | None:
    """How deep the folders lie that name the parts; None if there are none."""
    for depth in range(max(map(len, folders), default=0)):
        beside: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for names in folders:
            if len(names) > depth:
                beside[names[:depth]].add(names[depth])
        level = set().union(*beside.values())
        deep = all(len(names) > depth for names in folders)
        named = deep and {"train", "test"} <= set(map(part_named, level)) <= {*PARTS}
        if named or any(map(_name_parts, beside.values())) or (not depth and level & {*PARTS}):
            return depth
        # Training/ beside Holdout/: whoever says what to train on says what not to train on.
        holding = {names[depth] for names in folders if len(names) > depth + 1}
        half = {part_named(name) for name in holding if _says_nothing_else(name)}
        if len(beside) == 1 < len(level) and half & {"train", "test"}:
            return depth
    return None


def _name_parts(beside: Iterable[str]) -> bool:
    """Whether folders that lie side by side name the parts."""
    parts = {name: part_named(name) for name in beside}
    if None not in parts.values():
        return "train" in parts.values() and len(set(parts.values())) > 1
    return {"train", "test"} <= {part for name, part in parts.items() if _says_nothing_else(name)}


def _check_parts(root: Path, depth: int, folders: Iterable[tuple[str, ...]]) -> None:
    written: dict[Part | None, set[str]] = defaultdict(set)
    for names in folders:
        name = names[depth] if len(names) > depth else names[-1]
        written[part_named(name) if len(names) > depth else None].add(name)
    there = sorted(name for names in written.values() for name in names)
    if None in written or not {"train", "test"} <= written.keys():
        raise DataError(
            f"{root}: holds {', '.join(there[:8])}. Either name all parts (train, test and, if "
            "there is one, val, nothing beside them), or put all class folders side by side and "
            "let them be divided"
        )
    for part, names_of in written.items():
        if len(names_of) > 1:
            raise DataError(
                f"{root}: {' and '.join(map(repr, sorted(names_of)))} all speak of {part!r}; put "
                f"their class folders into one, {part!r}"
            )


def _place(names: tuple[str, ...], depth: int, single: bool) -> Place:
    """The place of a folder. What stands above the parts counts only where it is not the same for
    all; a part that is named again below (``seg_train/seg_train``) does not count."""
    part, below = part_named(names[depth]), list(names[depth + 1 :])
    while len(below) > 1 and part_named(below[0]) == part:
        del below[0]
    return Place(part, "/".join(below if single and below else [*names[:depth], *below]))


def _check_distinct(root: Path, found: dict[str, Place], class_names: str) -> None:
    """Refuse what might be one class in two places: the same name, or one that looks alike."""
    whole = _repeated(found, lambda name: unicodedata.normalize("NFC", name))
    if whole or class_names == "paths":
        _refuse(root, found, whole, "")
        return
    _refuse(root, found, _repeated(found, _last_name), f", or, if they differ, add {_PATHS}")


def _repeated(found: dict[str, Place], key: Callable[[str], str]) -> list[list[str]]:
    """Folders whose classes are the same by some key."""
    same = defaultdict(list)
    for folder, place in found.items():
        same[key(place.class_name)].append(folder)
    return sorted(sorted(folders) for folders in same.values() if len(folders) > 1)


def _last_name(class_name: str) -> str:
    """What two names of folders have in common if they look alike: Unicode form, letter case,
    blanks and marks without a width apart."""
    names = class_name.split("/")
    while len(names) > 1 and names[-1].casefold() in _FILLERS:  # owl/images
        del names[-1]
    small = unicodedata.normalize("NFKC", names[-1]).casefold()
    shown = "".join(mark for mark in small if unicodedata.category(mark) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", shown).split())


def _refuse(root: Path, found: dict[str, Place], same: list[list[str]], otherwise: str) -> None:
    if not same:
        return
    more = f" (and {len(same) - 1} more classes likewise)" if len(same) > 1 else ""
    first = [found[folder] for folder in same[0]]
    name = first[0].class_name.rpartition("/")[2]
    parts = sorted({str(place.part) for place in first}, key=[*PARTS, "None"].index)
    if len({place.class_name for place in first}) == 1 < len(parts):
        where = f"class {first[0].class_name!r} is in {' and in '.join(parts)}{more}"
    elif len({folder.rpartition("/")[2] for folder in same[0]}) == 1:
        where = f"class {name!r} stands in {' and in '.join(map(repr, same[0]))}{more}"
    else:
        alike = " and ".join(ascii(folder) for folder in same[0])
        where = f"{alike} look alike{more}, as two spellings of a class do"
    raise DataError(
        f"{root}: {where}. Few-shot learning is tested on classes never trained on: put the images "
        "of a class into one folder, all class folders side by side, and let them be divided"
        f"{otherwise}"
    )
