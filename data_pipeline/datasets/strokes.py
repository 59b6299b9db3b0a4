"""`strokes`: generated handwriting-like characters, the dataset that needs no download.

A character is a programme of one to four Bezier strokes. The characters of an alphabet take
their strokes from that alphabet's own pool, slightly varied and joined in different ways, so
they resemble each other more than they resemble the characters of other alphabets. Twenty
drawers then draw every character: each drawer has a hand of his own in every alphabet (pen,
slant, size, sloppiness), and every drawing adds its own wobble, rotation and shift.

A candidate character with too little or too much ink, a flat shape or a blot, or one that is
nearly a copy of an earlier character of any alphabet, is passed over. Every decision is taken
in exact arithmetic, so the dataset has the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.datasets import DatasetSpec, Part, RawImage, check_split
from data_pipeline.datasets._stroke_render import (
    CANVAS,
    Bytes,
    Draws,
    Floats,
    Ints,
    bezier,
    matrices,
    pen_path,
    rasterise,
    transform,
)
from data_pipeline.errors import DataError

SPEC = DatasetSpec(
    name="strokes",
    summary="generated handwriting-like characters in 52 alphabets, 20 drawings of each",
    licence="Apache-2.0 (generated)",
    shape=(CANVAS, CANVAS, 1),
    splits=("default",),
    version=1,
    embedded=True,
)

ALPHABETS: tuple[tuple[Part, int], ...] = (("train", 35), ("val", 5), ("test", 12))
"""Parts in order, each with its number of alphabets."""

CHARACTERS = 32
"""Characters (classes) of one alphabet."""

DRAWERS = 20
"""Drawings of one character."""

# What a random stream is for; the first word of its name.
_POOL, _CHARACTER, _HAND, _DRAWING = 1, 2, 3, 4

_POOL_WEIGHTS = (12, 7, 4, 3, 2, 1, 1, 1)  # some strokes mark an alphabet, some are rare
_STROKE_COUNT_WEIGHTS = (3, 8, 6, 3)
_MOST_STROKES = len(_STROKE_COUNT_WEIGHTS)
_BOX = 20.0  # the longer side of a character as designed, in pixels
_CENTRE = (CANVAS - 1) / 2.0
_MARGIN = 1.5  # pen positions keep this far from the border pixels' centres

# Limits on a character drawn with a plain pen of _PLAIN_PEN pixels.
_PLAIN_PEN = 2.2
_INK_RANGE = (60, 170)  # in fully inked pixels
_LEAST_SIDE = 7.0  # of the shorter side of the character, in pixels
_BLOT = 5  # a fully inked square of this side is a blot
_LIKENESS_PERCENT = 87  # largest cosine between the blurred shapes of two characters

# How far drawings stray, as deviations; pairs are (a drawer's habit, a single drawing). Most of
# the variation moves a character as a whole: that defeats a comparison of pixels, and a network
# soon learns to overlook it.
_TURN = (0.07, 0.08)  # tangent of half the rotation angle
_SHEAR = (0.18, 0.12)
_STRETCH = (0.10, 0.10)
_LEAST_STRETCH = 0.65
_PEN = (0.35, 0.15)  # pixels
_LEAST_PEN = 1.5
_SHIFT = 2.4  # pixels
_BEND = 0.7  # pixels, of single control points
_DRIFT = 0.5  # pixels, of whole strokes

# Directions in which strokes prefer to run, as (x, y) with y downwards.
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (-1, 1), (1, 2), (-1, 2), (2, 1))
_DIRECTION_WEIGHTS = (5, 4, 2, 2, 1, 1, 1)
_KIND_WEIGHTS = (4, 6, 3, 3, 2, 3)  # of line, arc, hook, wave, loop and bowl


@dataclass(frozen=True, slots=True)
class _Character:
    """One class: where it belongs and its stroke programme.

    `strokes` is float64 [S, 4, 2], control points in pixels from the character's centre.
    """

    part: Part
    alphabet: int
    candidate: int
    class_name: str
    strokes: Floats


def iter_images(source: Path | None = None, split: str = "default") -> Iterator[RawImage]:
    """Generate every drawing.

    Args:
        source: must be None, because nothing is read.
        split: "default", the only division of the alphabets.

    Yields:
        uint8 [28, 28, 1] drawings, 255 for ink and 0 for paper: the parts train, val and test in
        that order, the classes of a part one after another, and drawings 0 to 19 of each class.

    Raises:
        DataError: for a source, or for a split that does not exist; already at the call.
    """
    if source is not None:
        raise DataError(
            f"dataset 'strokes' is generated and takes no source, but got {source}; leave it out"
        )
    check_split(SPEC, split)
    return _images()


def _images() -> Iterator[RawImage]:
    for character in _characters():
        for drawer, pixels in enumerate(_drawings(character)):
            yield RawImage(
                part=character.part,
                class_name=character.class_name,
                name=f"drawer{drawer:02d}",
                pixels=pixels[:, :, None],
            )


def class_attributes(split: str = "default") -> Iterator[tuple[str, dict[str, float]]]:
    """The programme of every character, by its class name.

    Of each of four strokes whether it is there (``stroke1``), and its control points in times of
    half the longest side of a character (``stroke1_x1`` to ``stroke1_y4``), zero where it is not.
    """
    check_split(SPEC, split)
    for character in _characters():
        own: dict[str, float] = {}
        for number in range(_MOST_STROKES):
            there = number < len(character.strokes)
            stroke = character.strokes[number] if there else np.zeros((4, 2))
            own[f"stroke{number + 1}"] = float(there)
            for point, place in enumerate(stroke / (_BOX / 2.0), 1):
                for axis, value in zip("xy", place.tolist(), strict=True):
                    own[f"stroke{number + 1}_{axis}{point}"] = value
        yield character.class_name, own


@lru_cache(maxsize=1)
def _characters() -> tuple[_Character, ...]:
    """All classes in order: the first acceptable candidates of every alphabet."""
    parts = [part for part, alphabets in ALPHABETS for _ in range(alphabets)]
    shapes = np.zeros((len(parts) * CHARACTERS, (CANVAS // 2) ** 2), dtype=np.float64)
    accepted: list[_Character] = []
    for alphabet, part in enumerate(parts):
        pool = _pool(alphabet)
        number = 0
        for candidate, strokes, plain in _candidates(alphabet, pool):
            if number == CHARACTERS:
                break
            if _is_degenerate(strokes, plain):
                continue
            shape = _blurred(plain)
            if _is_known(shape, shapes[: len(accepted)]):
                continue
            shapes[len(accepted)] = shape
            class_name = f"alphabet{alphabet:02d}/character{number:02d}"
            accepted.append(_Character(part, alphabet, candidate, class_name, strokes))
            number += 1
    return tuple(accepted)


def _candidates(alphabet: int, pool: Floats) -> Iterator[tuple[int, Floats, Bytes]]:
    """Endless candidates of an alphabet: number, strokes [S, 4, 2], plain drawing [28, 28]."""
    batch = 2 * CHARACTERS
    first = 0
    while True:
        strokes = [_compose(alphabet, number, pool) for number in range(first, first + batch)]
        # The pen may go over a stroke twice, so characters of few strokes are padded with copies
        # of their first one and the whole batch is drawn at once.
        paths = np.stack(
            [
                pen_path(np.concatenate([item, *[item[:1]] * (_MOST_STROKES - len(item))]))
                for item in strokes
            ]
        )
        plain = rasterise(paths + _CENTRE, np.full(batch, _PLAIN_PEN))
        for offset in range(batch):
            yield first + offset, strokes[offset], plain[offset]
        first += batch


def _pool(alphabet: int) -> Floats:
    """The strokes of an alphabet: float64 [N, 4, 2], about 1 long, starting at the origin."""
    draws = Draws(_POOL, alphabet)
    return np.stack([_stroke(draws) for _ in _POOL_WEIGHTS])


def _stroke(draws: Draws) -> Floats:
    """One random stroke, float64 [4, 2]; a quadratic curve is written as a cubic one."""
    along_x, along_y = _DIRECTIONS[draws.choice(_DIRECTION_WEIGHTS)]
    length = draws.between(0.5, 1.1) / float(np.sqrt(np.float64(along_x**2 + along_y**2)))
    side = 1.0 if draws.choice((1, 1)) else -1.0
    bow = draws.between(0.0, 1.0) * side
    kind = draws.choice(_KIND_WEIGHTS)
    # Control points as (along, across) fractions of the stroke's chord.
    if kind == 0:
        inner, end = _raised(0.5, 0.15 * bow), (1.0, 0.0)
    elif kind == 1:
        inner, end = _raised(0.5, 0.7 * side + 0.6 * bow), (1.0, 0.0)
    elif kind == 2:
        inner, end = ((0.55, 0.0), (1.25, 0.1 * side)), (0.85, 0.45 * side + 0.25 * bow)
    elif kind == 3:
        swing = 0.6 * side + 0.6 * bow
        inner, end = ((0.3, swing), (0.7, -swing)), (1.0, 0.0)
    elif kind == 4:
        rise = 0.9 * side + 0.5 * bow
        inner, end = ((1.5, rise), (-0.5, rise)), (1.0, 0.0)
    else:
        rise = 1.0 * side + 0.4 * bow
        inner, end = ((0.4, rise), (1.5, 0.8 * rise)), (0.1 + 0.2 * bow * side, 0.0)
    chord = np.array([(0.0, 0.0), *inner, end], dtype=np.float64)
    frame = np.array([[along_x, -along_y], [along_y, along_x]], dtype=np.float64) * length
    return transform(frame, chord)


def _raised(along: float, across: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Inner control points of the cubic equal to the quadratic with the middle point given."""
    return (
        (2.0 * along / 3.0, 2.0 * across / 3.0),
        ((1.0 + 2.0 * along) / 3.0, 2.0 * across / 3.0),
    )


def _compose(alphabet: int, candidate: int, pool: Floats) -> Floats:
    """The strokes of one candidate, float64 [S, 4, 2], in pixels from its centre."""
    draws = Draws(_CHARACTER, alphabet, candidate)
    placed: list[Floats] = []
    for _ in range(1 + draws.choice(_STROKE_COUNT_WEIGHTS)):
        stroke = pool[draws.choice(_POOL_WEIGHTS)]
        size = draws.between(0.6, 1.15)
        tilt = np.stack([0.06 * draws.bell(), 0.1 * draws.bell()])
        varied = transform(
            matrices(tilt[0], tilt[1], np.asarray(size), np.asarray(size)), stroke
        ) + 0.03 * draws.bell(4, 2)
        if placed:
            # Pens meet: an end or the middle of the stroke lands on an end or the middle of an
            # earlier one. A few strokes stay apart, like dots and bars.
            earlier = placed[draws.choice((1,) * len(placed))]
            places = np.array([(0.0, 0.5, 1.0)[draws.choice((2, 1, 2))] for _ in range(2)])
            joint = bezier(earlier, places[:1])[0] - bezier(varied, places[1:])[0]
            apart = 0.35 if draws.choice((9, 1)) else 0.03
            varied = varied + (joint + apart * draws.bell(2))
        placed.append(varied)
    strokes = np.stack(placed)
    low, high = _extent(pen_path(strokes))
    sides = high - low
    scale = _BOX / np.maximum(np.max(sides), 0.1)
    # The shorter side is stretched a little, because writers fill their line.
    stretch = np.minimum(1.25, _BOX / np.maximum(sides * scale, 0.1))
    sized: Floats = (strokes - (low + high) * 0.5) * (scale * stretch)
    return sized


def _extent(path: Floats) -> tuple[Floats, Floats]:
    """Least and greatest (x, y) of pen paths [..., P, 2], each [..., 2]."""
    return np.min(path, axis=-2), np.max(path, axis=-2)


def _is_degenerate(strokes: Floats, plain: Bytes) -> bool:
    """Whether a candidate has the wrong amount of ink, is flat, or holds a blot."""
    ink = int(np.sum(plain, dtype=np.int64))
    low, high = _extent(pen_path(strokes))
    if not _INK_RANGE[0] * 255 <= ink <= _INK_RANGE[1] * 255 or np.min(high - low) < _LEAST_SIDE:
        return True
    windows = np.lib.stride_tricks.sliding_window_view(plain, (_BLOT, _BLOT))
    return bool(np.any(np.min(windows, axis=(2, 3)) > 127))


def _blurred(plain: Bytes) -> Ints:
    """A character's blurred shape, whole numbers [196]: its drawing at half the resolution."""
    values = plain.astype(np.int64)
    for _ in range(2):
        padded = np.pad(values, 1)
        rows = padded[:-2] + padded[1:-1] + padded[2:]
        values = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    pooled = values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
    return (pooled // (4 * 81)).reshape(-1)


def _is_known(shape: Ints, shapes: Floats) -> bool:
    """Whether a blurred shape [196] is too like one of the earlier shapes [N, 196]."""
    # All values are whole and every sum stays below 2**53, so the matrix product is exact in
    # whatever order it is added up, and the cosine is compared without a division or a root.
    products = (shapes @ shape.astype(np.float64)).astype(np.int64)
    norms = np.einsum("ij,ij->i", shapes, shapes).astype(np.int64) * int(shape @ shape)
    return bool(np.any(products * products * 100**2 > norms * _LIKENESS_PERCENT**2))


def _drawings(character: _Character) -> Bytes:
    """Every drawer's drawing of a character, uint8 [20, 28, 28]."""
    # A hand belongs to the drawer and the alphabet, `own` to the single drawing.
    hand = Draws(_HAND, character.alphabet).bell(6, DRAWERS)
    draws = Draws(_DRAWING, character.alphabet, character.candidate)
    own = draws.bell(7, DRAWERS)
    count = len(character.strokes)
    wobble = _BEND * draws.bell(DRAWERS, count, 4, 2) + _DRIFT * draws.bell(DRAWERS, count, 1, 2)
    sloppiness = np.maximum(1.0 + 0.3 * hand[5], 0.3)
    strokes = character.strokes + wobble * sloppiness[:, None, None, None]

    matrix = matrices(
        _TURN[0] * hand[0] + _TURN[1] * own[0],
        _SHEAR[0] * hand[1] + _SHEAR[1] * own[1],
        np.maximum(1.0 + _STRETCH[0] * hand[2] + _STRETCH[1] * own[2], _LEAST_STRETCH),
        np.maximum(1.0 + _STRETCH[0] * hand[3] + _STRETCH[1] * own[3], _LEAST_STRETCH),
    )
    path = transform(matrix[:, None], pen_path(strokes))
    thickness = np.maximum(_PLAIN_PEN + _PEN[0] * hand[4] + _PEN[1] * own[4], _LEAST_PEN)

    # Keep the whole character on the canvas: shrink what is too large, then limit the shift.
    low, high = _extent(path)
    room = CANVAS - 1 - 2.0 * _MARGIN
    shrink = np.minimum(1.0, room / np.max(high - low, axis=-1))[:, None]
    slack = (room - (high - low) * shrink) * 0.5
    shift = np.minimum(np.maximum(_SHIFT * own[5:7].T, -slack), slack)
    middle = (low + high) * 0.5
    path = (path - middle[:, None]) * shrink[:, None] + (shift + _CENTRE)[:, None]
    return rasterise(path, thickness)
