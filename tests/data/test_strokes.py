"""The generated `strokes` dataset: counts, rejection, difficulty and reproducible bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from data_pipeline.datasets import RawImage, strokes
from data_pipeline.datasets._stroke_render import Draws, matrices, pen_path, rasterise, transform
from data_pipeline.errors import DataError
from data_pipeline.store.class_store import open_store

Array = npt.NDArray[np.float64]

# sha256 of every drawing with its names, in order. Other bytes are another dataset: when this
# has to change, SPEC.version has to change with it.
GOLDEN = "c3cba44db2684c0e0ca9c00cbee191bafbee8f01c57ca381995589c39c7bd59f"
# Of the class store of a tenth of them, see `strokes_data`.
STORE = "ff77058f4680a3c4b72246b4822e2de4a9dd56c6a6edd93d268917492c83f50f"

SUBSET_SCRIPT = """
import hashlib
import numpy as np
from data_pipeline.datasets import strokes

digest = hashlib.sha256()
for character in strokes._characters():
    digest.update(character.strokes.tobytes())
for character in strokes._characters()[::8]:
    digest.update(strokes._drawings(character).tobytes())
print(",".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])))
print(digest.hexdigest())
"""


def digest_of(images: Iterable[RawImage]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.part}/{image.class_name}/{image.name}\n".encode())
        digest.update(image.pixels.tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def images() -> list[RawImage]:
    return list(strokes.iter_images())


@pytest.fixture(scope="module")
def pixels(images: list[RawImage]) -> npt.NDArray[np.uint8]:
    """All drawings, uint8 [C, 20, 28, 28]."""
    stacked = np.stack([image.pixels[:, :, 0] for image in images])
    return stacked.reshape(-1, strokes.DRAWERS, 28, 28)


@pytest.fixture(scope="module")
def shapes() -> Array:
    """Unit vectors [C, 784] of the blurred plain characters, by floating-point arithmetic."""
    blurred = []
    for character in strokes._characters():
        path = pen_path(character.strokes)[None] + 13.5
        plain = rasterise(path, np.array([strokes._PLAIN_PEN]))[0].astype(np.float64)
        for _ in range(2):
            wide = np.pad(plain, 1)
            plain = sum(
                (wide[y : y + 28, x : x + 28] for y in range(3) for x in range(3)), 0 * plain
            )
        pooled = plain.reshape(14, 2, 14, 2).mean(axis=(1, 3)).reshape(-1)
        blurred.append(pooled / np.linalg.norm(pooled))
    return np.stack(blurred)


def test_the_store_has_the_bytes_of_ever(strokes_data: Path) -> None:
    """Of a tenth; the slow tier holds all drawings, one by one."""
    store = open_store(strokes_data / "strokes-default" / "store")
    assert store.digest == STORE


@pytest.mark.slow
def test_golden_digest(images: list[RawImage]) -> None:
    assert strokes.SPEC.version == 1
    assert digest_of(images) == GOLDEN


@pytest.mark.slow
def test_counts_order_and_format(images: list[RawImage]) -> None:
    assert len(images) == 1664 * 20
    assert len({(image.class_name, image.name) for image in images}) == len(images)
    assert [part for part, _ in groupby(images, key=lambda image: image.part)] == [
        "train",
        "val",
        "test",
    ]
    classes = [list(group) for _, group in groupby(images, key=lambda image: image.class_name)]
    assert len(classes) == 1664
    drawers = [f"drawer{number:02d}" for number in range(20)]
    assert all([image.name for image in group] == drawers for group in classes)
    sizes = dict.fromkeys(("train", "val", "test"), 0)
    for group in classes:
        sizes[group[0].part] += 1
    assert sizes == {"train": 1120, "val": 160, "test": 384}
    for image in images:
        assert image.pixels.shape == strokes.SPEC.shape
        assert image.pixels.dtype == np.uint8


@pytest.mark.slow
def test_parts_share_no_alphabet(images: list[RawImage]) -> None:
    alphabets: dict[str, set[str]] = {}
    for image in images:
        alphabets.setdefault(image.part, set()).add(image.class_name.split("/")[0])
    assert {part: len(names) for part, names in alphabets.items()} == dict(strokes.ALPHABETS)
    assert len(set().union(*alphabets.values())) == sum(map(len, alphabets.values()))


@pytest.mark.slow
def test_first_drawing_has_the_documented_names() -> None:
    first = next(strokes.iter_images())
    assert (first.part, first.class_name, first.name) == (
        "train",
        "alphabet00/character00",
        "drawer00",
    )


def test_source_and_unknown_split_are_refused_at_the_call() -> None:
    with pytest.raises(DataError, match="takes no source"):
        strokes.iter_images(Path("somewhere"))
    with pytest.raises(DataError, match=r"'vinyals'.*it has default"):
        strokes.iter_images(split="vinyals")


@pytest.mark.slow
def test_no_two_drawings_are_equal(pixels: npt.NDArray[np.uint8]) -> None:
    flat = pixels.reshape(-1, 784)
    assert len({drawing.tobytes() for drawing in flat}) == len(flat)
    # The drawings of a class differ by more than a touched-up pixel.
    difference = np.abs(pixels[:, 1:].astype(np.int64) - pixels[:, :-1]).sum(axis=(2, 3))
    assert difference.min() > 10 * 255


@pytest.mark.slow
def test_ink_is_bright_soft_and_within_bounds(pixels: npt.NDArray[np.uint8]) -> None:
    ink = pixels.sum(axis=(2, 3), dtype=np.int64) / 255
    assert ink.min() >= 30
    assert ink.max() <= 280
    assert 90 <= np.median(ink) <= 125
    assert np.all(pixels.max(axis=(2, 3)) > 200)
    grey = np.mean((pixels > 0) & (pixels < 255), axis=(2, 3))
    assert grey.min() > 0.01
    black = np.mean(pixels == 0, axis=(2, 3))
    assert black.min() > 0.5


@pytest.mark.slow
def test_characters_are_centred_and_fill_the_canvas(pixels: npt.NDArray[np.uint8]) -> None:
    marked: npt.NDArray[np.bool_] = pixels > 127
    for axis in (2, 3):
        line: npt.NDArray[np.bool_] = np.asarray(marked.any(axis=axis))
        first, last = line.argmax(axis=-1), 27 - line[..., ::-1].argmax(axis=-1)
        assert abs(float(np.mean((first + last) / 2)) - 13.5) < 0.3
        assert np.median(last - first + 1) >= 18


@pytest.mark.slow
def test_near_duplicates_are_rejected(shapes: Array) -> None:
    likeness = shapes @ shapes.T
    np.fill_diagonal(likeness, 0.0)
    # Rounding the blurred values to whole numbers moves a cosine by less than 0.01.
    assert likeness.max() < strokes._LIKENESS_PERCENT / 100 + 0.01
    # The limit was at work: without it some pairs would lie far above.
    assert likeness.max() > strokes._LIKENESS_PERCENT / 100 - 0.02
    last = max(character.candidate for character in strokes._characters())
    assert last > strokes.CHARACTERS


@pytest.mark.slow
def test_rejected_candidates_were_degenerate_or_known() -> None:
    characters = strokes._characters()
    accepted = {c.candidate: c for c in characters if c.alphabet == 0}
    earlier: list[npt.NDArray[np.int64]] = []
    reasons = {"accepted": 0, "degenerate": 0, "known": 0}
    for number, candidate, plain in strokes._candidates(0, strokes._pool(0)):
        if number > max(accepted):
            break
        shape = strokes._blurred(plain)
        if strokes._is_degenerate(candidate, plain):
            reason = "degenerate"
        elif earlier and strokes._is_known(shape, np.stack(earlier).astype(np.float64)):
            reason = "known"
        else:
            reason = "accepted"
            earlier.append(shape)
            np.testing.assert_array_equal(accepted[number].strokes, candidate)
        assert (number in accepted) == (reason == "accepted")
        reasons[reason] += 1
    assert all(reasons.values()), reasons


def plain_drawing(candidate: Array) -> npt.NDArray[np.uint8]:
    path = pen_path(candidate)[None] + 13.5
    return rasterise(path, np.array([strokes._PLAIN_PEN]))[0]


def line(start: tuple[float, float], end: tuple[float, float]) -> Array:
    ends = np.array([start, end])
    return np.stack(
        [ends[0], ends[0] * 2 / 3 + ends[1] / 3, ends[0] / 3 + ends[1] * 2 / 3, ends[1]]
    )


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("dot", [line((0, 0), (1, 1))]),
        ("short", [line((-5, -5), (5, 5))]),
        ("flat", [line((-10, y), (10, -y)) for y in (-2, 0, 2)]),
        ("blot", [line((-10, -10), (10, 10)), *(line((3, y), (10, y)) for y in (-9, -7, -5))]),
        ("dense", [line((x, -10), (x + 3, 10)) for x in (-10, -6, -2, 2, 6)]),
    ],
)
def test_degenerate_shapes_are_recognised(name: str, candidate: list[Array]) -> None:
    stacked = np.stack(candidate)
    assert strokes._is_degenerate(stacked, plain_drawing(stacked)), name


def test_sound_shape_is_kept_and_its_copy_is_known() -> None:
    cross = np.stack([line((-10, -10), (10, 10)), line((-10, 10), (10, -10))])
    corner = np.stack([line((-10, -10), (-10, 10)), line((-10, 10), (10, 10))])
    assert not strokes._is_degenerate(cross, plain_drawing(cross))
    known = strokes._blurred(plain_drawing(cross))[None].astype(np.float64)
    assert strokes._is_known(strokes._blurred(plain_drawing(cross + 0.4)), known)
    assert not strokes._is_known(strokes._blurred(plain_drawing(corner)), known)
    assert not strokes._is_known(strokes._blurred(plain_drawing(corner)), known[:0])


@pytest.mark.slow
def test_characters_of_an_alphabet_resemble_each_other(shapes: Array) -> None:
    grouped = shapes.reshape(-1, strokes.CHARACTERS, shapes.shape[1])
    likeness = np.einsum("acd,bed->abce", grouped, grouped).mean(axis=(2, 3))
    # Leave out the likeness of each character with itself.
    own = (np.trace(likeness) / len(likeness) * strokes.CHARACTERS - 1) / (strokes.CHARACTERS - 1)
    others = (likeness.sum() - np.trace(likeness)) / (likeness.size - len(likeness))
    assert own > others + 0.01


@pytest.mark.slow
def test_every_alphabet_has_its_own_pool_and_strokes_vary_in_number() -> None:
    total = sum(number for _, number in strokes.ALPHABETS)
    assert len({strokes._pool(alphabet).tobytes() for alphabet in range(total)}) == total
    np.testing.assert_array_equal(strokes._pool(0), strokes._pool(0))
    counts = np.bincount([len(character.strokes) for character in strokes._characters()])
    assert len(counts) == 5
    assert np.all(counts[1:] > 50)


@pytest.mark.slow
def test_drawers_have_a_hand_of_their_own(pixels: npt.NDArray[np.uint8]) -> None:
    # A drawer's pen marks all his characters of an alphabet, and changes with the alphabet.
    ink = pixels.sum(axis=(2, 3), dtype=np.int64) / 255
    relative = (ink / ink.mean(axis=1, keepdims=True)).reshape(-1, strokes.CHARACTERS, 20)
    halves = relative[:, ::2].mean(axis=1), relative[:, 1::2].mean(axis=1)
    same = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*halves, strict=True)])
    shifted = zip(halves[0][:-1], halves[1][1:], strict=True)
    other = np.mean([np.corrcoef(a, b)[0, 1] for a, b in shifted])
    assert same > 0.8
    assert abs(other) < 0.3


@pytest.mark.slow
def test_pixel_nearest_neighbour_is_half_right(
    images: list[RawImage], pixels: npt.NDArray[np.uint8]
) -> None:
    """Five classes, one example each, cosine of raw pixels: neither hopeless nor solved."""
    parts = np.array([image.part for image in images[:: strokes.DRAWERS]])
    vectors = pixels[parts == "test"].reshape(-1, strokes.DRAWERS, 784).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    rng = np.random.default_rng(20)
    right = []
    for _ in range(800):
        ways = rng.choice(len(vectors), 5, replace=False)
        order = np.stack([rng.permutation(strokes.DRAWERS)[:16] for _ in ways])
        examples = vectors[ways, order[:, 0]]
        queries = vectors[ways[:, None], order[:, 1:]]
        nearest = (queries @ examples.T).argmax(axis=-1)
        right.append(np.mean(nearest == np.arange(5)[:, None]))
    assert 0.45 < np.mean(right) < 0.55


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_vector_unit() -> None:
    configuration = np.show_config(mode="dicts")
    assert configuration is not None
    found = configuration["SIMD Extensions"].get("found", [])
    if not found:
        pytest.skip("this processor offers numpy nothing beyond its baseline")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    environment.pop("NPY_ENABLE_CPU_FEATURES", None)
    environment["NPY_DISABLE_CPU_FEATURES"] = " ".join(found)
    plain = subprocess.run(
        [sys.executable, "-W", "error", "-c", SUBSET_SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert plain.returncode == 0, plain.stderr
    remaining, digest = plain.stdout.split("\n")[:2]
    assert remaining == "", "the features were not switched off"
    expected = hashlib.sha256()
    for character in strokes._characters():
        expected.update(character.strokes.tobytes())
    for character in strokes._characters()[::8]:
        expected.update(strokes._drawings(character).tobytes())
    assert digest == expected.hexdigest()


def test_draws_are_named_bounded_and_evenly_spread() -> None:
    numbers = Draws(9, 1).uniform(40_000)
    np.testing.assert_array_equal(numbers[:5], Draws(9, 1).uniform(5))
    assert not np.array_equal(numbers[:5], Draws(9, 2).uniform(5))
    assert not np.array_equal(numbers[:5], Draws(1, 9).uniform(5))
    assert 0.0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1.0
    bell = Draws(9, 3).bell(20_000)
    assert abs(bell.mean()) < 0.03
    assert abs(bell.std() - 1.0) < 0.03
    assert np.abs(bell).max() <= 2 * np.sqrt(3)
    draws = Draws(9, 4)
    picked = np.bincount([draws.choice((1, 0, 3)) for _ in range(2000)], minlength=3)
    assert picked[1] == 0
    assert 0.2 < picked[0] / 2000 < 0.3
    with pytest.raises(ValueError, match="32-bit words"):
        Draws(1 << 32)


def test_rasterise_measures_the_distance_to_the_pen() -> None:
    drawn = rasterise(np.array([[[14.0, 10.0]], [[3.0, 20.0]]]), np.array([3.0, 4.0]))
    assert drawn.shape == (2, 28, 28)
    y, x = np.mgrid[:28, :28]
    for image, (cx, cy), reach in zip(drawn, ((14, 10), (3, 20)), (2.0, 2.5), strict=True):
        distance = np.sqrt((x - cx) ** 2.0 + (y - cy) ** 2.0)
        expected = np.clip(reach - distance, 0, 1) * 255
        assert np.abs(image - expected).max() <= 0.51
    assert drawn[0, 10, 14] == 255


def test_matrices_stretch_shear_then_rotate() -> None:
    angle, shear, width, height = 0.4, 0.3, 1.2, 0.8
    cosine, sine = np.cos(angle), np.sin(angle)
    expected = (
        np.array([[cosine, -sine], [sine, cosine]])
        @ np.array([[1, shear], [0, 1]])
        @ np.diag([width, height])
    )
    found = matrices(*(np.array(v) for v in (np.tan(angle / 2), shear, width, height)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    point = np.array([2.0, -1.0])
    np.testing.assert_allclose(transform(found, point), expected @ point, rtol=1e-12)
