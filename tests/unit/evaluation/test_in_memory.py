"""What a model in memory takes and gives: images and points, labels of any kind, values."""

from __future__ import annotations

import io
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ended_runs import FUNCTIONS, IMAGES, image_data
from fresh_learners import fresh_model
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.formats.images import Preparation
from metadist.errors import AdaptError
from metadist.evaluation.inference.inputs import ImageInputs, ValueInputs
from metadist.evaluation.inference.trained_model import TrainedModel

GRAY, COLOUR = Preparation((16, 16, 1), upright=True), Preparation((16, 16, 3), upright=True)
DEEP = Preparation((16, 16, 1), low=1000, high=5000)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image data."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    return root


@lru_cache
def images(place: Path, *overrides: str) -> tuple[TrainedModel, Any]:
    model, source = fresh_model(IMAGES, *overrides, root=place / "data")
    return model, source.episodes([0])


def drawn(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def as_file(image: Image.Image, prepare: Preparation, kind: str = "PNG", **more: Any) -> Any:
    """What the image would be as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return prepare.pixels(buffer.getvalue(), "it")


# --- images -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prepare", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (20, 33)])
def test_every_form_of_an_image_is_what_its_file_is(prepare, channels, size):
    pixels = drawn(*size, channels)
    flat = pixels[:, :, 0] if channels == 1 else pixels
    expected = as_file(Image.fromarray(flat), prepare)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = {
        "Pillow": Image.fromarray(flat),
        "array": pixels,
        "flat": flat,
        "turned in memory": np.asfortranarray(pixels),
        "16 bits": pixels.astype(np.uint16) * 257,
        "floats": pixels / 255,
        "float32": (pixels / 255).astype(np.float32),
        "float16": (pixels / 255).astype(np.float16),
        "tensor": tensor,
        "float tensor": tensor / 255,
        "bfloat16": (tensor.double() / 255).bfloat16(),
        "needs a gradient": (tensor / 255).requires_grad_(),
    }
    for name, form in forms.items():
        (got,) = ImageInputs(prepare).read([form], "support")
        if name == "bfloat16":  # of eight bits it has eight
            np.testing.assert_allclose(got.astype(int), expected.astype(int), atol=2)
        else:
            np.testing.assert_array_equal(got, expected, name)


def test_batches_are_lists_of_their_images():
    read = partial(ImageInputs(COLOUR).read, what="query")
    pixels = drawn(5, 18, 17, 3)
    expected = read([*pixels])
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for batch in (pixels, tuple(pixels), tensor, tensor / 255, [*tensor], pixels / 255):
        np.testing.assert_array_equal(read(batch), expected)
    gray = drawn(5, 18, 17)
    np.testing.assert_array_equal(read(gray), read([*gray]))
    assert read([]).shape == read(pixels[:0]).shape == read(tensor[:0]).shape == (0, 16, 16, 3)


def test_floats_keep_what_a_range_of_sixteen_bits_tells_apart():
    deep = np.linspace(1000, 5000, 256).reshape(16, 16)
    (got,) = ImageInputs(DEEP).read([deep / 65535], "support")
    (same,) = ImageInputs(DEEP).read([deep.round().astype(np.uint16)], "support")
    np.testing.assert_array_equal(got, same)
    assert len(np.unique(got)) > 250


def test_pillow_images_lose_nothing_that_files_have():
    rng = np.random.default_rng(0)
    clear = Image.fromarray(rng.integers(0, 256, (20, 20, 4), dtype=np.uint8))
    palette = Image.fromarray(drawn(20, 20, 3)).quantize(16)
    deep = Image.fromarray(rng.integers(0, 65536, (20, 20)).astype(np.uint16))
    bits = Image.fromarray(drawn(20, 20)).convert("1")
    read = ImageInputs(COLOUR).read
    for image in (clear, palette, deep, bits, clear.convert("LA")):
        np.testing.assert_array_equal(read([image], "x")[0], as_file(image, COLOUR), image.mode)
    np.testing.assert_array_equal(
        read([np.asarray(clear)], "x")[0], as_file(clear, COLOUR), "an array with alpha"
    )


@pytest.mark.parametrize("turned", range(1, 9))
def test_photographs_stand_upright(turned):
    exif = Image.Exif()
    exif[0x0112] = turned
    buffer = io.BytesIO()
    Image.fromarray(drawn(24, 40, 3)).save(buffer, "JPEG", exif=exif)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    expected = COLOUR.pixels(buffer.getvalue(), "it")
    np.testing.assert_array_equal(ImageInputs(COLOUR).read([opened], "x")[0], expected)


def test_dark_images_are_told_of(caplog):
    ImageInputs(GRAY).read(drawn(3, 16, 16) // 128, "support")
    assert "support: all images use 0 to 1" in caplog.text


HWC = np.zeros((16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (HWC, r"of a single image x give \[x\]"),
        (torch.zeros(3, 16, 16), r"of a single image x give \[x\]"),
        (torch.zeros(5, 16, 16), r"\[n, C, H, W\] in a tensor.*got \[5, 16, 16\]"),
        (np.array(1.0), r"got \[\]"),
        (Image.fromarray(HWC), "give a list"),
        ("folder", "a list of images is needed, got str"),
        (["a.png"], r"query\[0\]: .*got str; open it"),
        ([Path("a.png")], r"got PosixPath; open it"),
        ([HWC, None], r"query\[1\]: .*got NoneType"),
        ([[1, 2]], r"query\[0\]: .*got list"),
        ([HWC.transpose(2, 0, 1)], r"got \[3, 16, 16\]; turn it by .transpose\(1, 2, 0\)"),
        ([torch.zeros(16, 16, 3)], r"got \[16, 16, 3\]; turn it by .permute\(2, 0, 1\)"),
        ([np.zeros((16, 16, 5), np.uint8)], r"C = 1 or 3.*got \[16, 16, 5\]"),
        ([np.zeros((0, 16), np.uint8)], r"got \[0, 16, 1\]"),
        ([np.zeros((16, 16, 4))], r"got \[16, 16, 4\]"),
        ([np.zeros(16, np.uint8)], r"got \[16\]"),
        ([np.zeros((1, 16, 16, 3), np.uint8)], r"got \[1, 16, 16, 3\]"),
        ([HWC.astype(np.int64)], "got int64; convert it"),
        ([HWC.astype(bool)], "got bool; convert it"),
        ([HWC.astype(object)], "got object"),
        ([HWC + 255.0], "got 255 to 255; divide it by its white"),
        ([HWC - 2.0], "got -2 to -2; undo its standardisation"),
        ([HWC + 1.1], r"got 1.1 to 1.1; undo its .*clip\(0, 1\)"),
        ([HWC + np.nan], "not all of its values are finite"),
        ([HWC + np.inf], "not all of its values are finite"),
    ],
)
def test_what_is_no_image_is_named(given, words):
    with pytest.raises(AdaptError, match=words):
        ImageInputs(COLOUR).read(given, "query")


def test_a_file_that_is_cut_off_is_named():
    buffer = io.BytesIO()
    Image.fromarray(drawn(60, 60, 3)).save(buffer, "PNG")
    opened = Image.open(io.BytesIO(buffer.getvalue()[:2000]))
    with pytest.raises(AdaptError, match=r"query\[0\]: its file cannot be decoded"):
        ImageInputs(COLOUR).read([opened], "query")


# --- labels -----------------------------------------------------------------------------------


def given_back(place: Path, labels: Any) -> tuple[Any, ...]:
    model, episode = images(place, "algorithm.name=nearest_pixels", "eval.steps=0")
    fitted = model.adapt(episode.support_x[0], labels)
    found = fitted.predict(episode.support_x[0])
    assert found.classes == fitted.classes == tuple(sorted(set(found.labels)))
    return found.labels


@pytest.mark.parametrize(
    "names",
    [
        (7, 3, 12),
        ("z", "a", "é"),
        ((1, "x"), (0, "y"), (1, "a")),
        (2.5, -1.0, 0.0),
        (b"b", b"a", b"c"),
    ],
)
def test_labels_are_given_back_as_they_came(place, names):
    ways = images(place, "algorithm.name=nearest_pixels", "eval.steps=0")[1].support_y[0]
    labels = [names[way] for way in ways]
    assert given_back(place, labels) == tuple(labels)
    assert given_back(place, tuple(labels)) == tuple(labels)
    assert given_back(place, iter(labels)) == tuple(labels)


def test_labels_of_arrays_and_tensors_are_plain_numbers(place):
    ways = images(place, "algorithm.name=nearest_pixels", "eval.steps=0")[1].support_y[0]
    expected = tuple(ways.tolist())
    for labels in (ways, torch.from_numpy(ways), [*ways], [*torch.from_numpy(ways)]):
        found = given_back(place, labels)
        assert found == expected
        assert {type(label) for label in found} == {int}
    assert given_back(place, np.array(["a", "b", "c"])[ways]) == tuple("abc"[way] for way in ways)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a"] * 5, "one for each of 6 support examples is needed, got 5"),
        ([0, 1, 2, "a", 1, 2], "int, str cannot be told apart and put in order"),
        ([0, 1, 2, 1.5, 1, 2], "of one type.*got float, int"),
        ([0, 1, True, 0, 1, True], "of one type.*got bool, int"),
        ([0.0, 1.0, float("nan"), 0.0, 1.0, 2.0], "one of them is NaN"),
        ([[0], [1], [2]] * 2, "list cannot be told apart"),
        ([1j, 2j, 3j] * 2, "complex cannot be told apart"),
        ([None, "a", "b"] * 2, "NoneType, str cannot"),
        (np.eye(3)[[0, 1, 2, 0, 1, 2]], r"\[S\], is needed, got \[6, 3\]; of one-hot rows"),
        (torch.tensor(1), r"got \[\]"),
        ("abcabc", "got str"),
        (5, "got int"),
        ({"a": 1}, "got dict"),
        (["a", "b"] * 3, "give 3 classes, got 2"),
        (["a"] * 6, "at least two classes"),
    ],
)
def test_labels_that_are_none_are_named(place, labels, words):
    model, episode = images(place)
    with pytest.raises(AdaptError, match=words):
        model.adapt(episode.support_x[0], labels)


# --- a learner of images ------------------------------------------------------------------------


def test_prepared_or_not_the_answer_is_the_same(place):
    model, episode = images(place)
    support, queries = episode.support_x[0], episode.query_x[0]
    labels = [f"way{way}" for way in episode.support_y[0]]
    expected = model.adapt_prepared(support, labels).predict_prepared(queries)
    tensor = torch.from_numpy(support).permute(0, 3, 1, 2) / 255
    for form in (support, [*support], tensor, [Image.fromarray(i[:, :, 0]) for i in support]):
        found = model.adapt(form, labels).predict(queries)
        np.testing.assert_array_equal(found.logits, expected.logits)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    with pytest.raises(AdaptError, match="tells classes apart"):
        _ = expected.mean
    inverted = model.inverted().adapt(1 - tensor, labels).predict(255 - queries)
    np.testing.assert_array_equal(inverted.logits, expected.logits)


def test_the_adapted_network_is_the_one_that_predicts(place):
    model, episode = images(place, "model.norm=support")
    x = torch.from_numpy(episode.support_x[0]).permute(0, 3, 1, 2) / 255
    y = torch.from_numpy(episode.support_y[0])
    before = {name: p.clone() for name, p in model.trained.params.items()}
    found = model.adapt(x, y, steps=0).state_dict()
    assert set(found) == set(before)
    assert all(torch.equal(found[name], p) for name, p in before.items())
    # One step by hand, on the tape.
    leaves = {name: p.clone().requires_grad_() for name, p in before.items()}
    loop: Any = model.trained.learner
    order = y.argsort(stable=True)
    ctx = model.trained.context("test", 1)
    output = loop.backbone.forward(leaves, x[order], loop.normalisation.support(ctx))
    loss = torch.nn.functional.cross_entropy(output.value, y[order])
    names = [name for name in leaves if loop.adapts(name)]
    gradients = torch.autograd.grad(loss, [leaves[name] for name in names])
    after = model.adapt(x, y).state_dict()
    for name, gradient in zip(names, gradients, strict=True):
        expected = before[name] - model.trained.recipe.inner.lr * gradient
        torch.testing.assert_close(after[name], expected, rtol=1e-4, atol=1e-6)
    # Copies: what is done to them does not reach the model.
    after[names[0]].zero_()
    assert all(torch.equal(model.trained.params[name], p) for name, p in before.items())


def test_meta_parameters_are_no_part_of_the_network(place):
    model, episode = images(place, "algorithm.name=meta_sgd")
    found = model.adapt(episode.support_x[0], episode.support_y[0]).state_dict()
    assert set(found) < set(model.trained.params)
    assert not [name for name in found if name.startswith("rule.")]


def test_learners_without_an_inner_loop_say_what_there_is_instead(place):
    model, episode = images(place, "algorithm.name=nearest_embedding", "eval.steps=0")
    fitted = model.adapt(episode.support_x[0], episode.support_y[0])
    with pytest.raises(AdaptError, match=r"nearest_embedding adapts no network.*Embedded"):
        fitted.state_dict()


def test_unlabeled_points_are_for_learners_that_want_them(place):
    model, episode = images(place)
    with pytest.raises(AdaptError, match="maml learns from labelled examples alone"):
        model.adapt(episode.support_x[0], episode.support_y[0], unlabeled=episode.query_x[0])


def test_in_words(place):
    model, episode = images(place)
    text = repr(model)
    assert text.splitlines() == [
        "maml (conv4) of run maml",
        "trained on image_folder, 3-way 1-shot; tells 3 classes apart; images 16 x 16, gray",
        "adaptation steps: 1, normalisation: transductive",
    ]
    fitted = model.adapt(episode.support_x[0], episode.support_y[0])
    assert "adapted to 6 examples of 3 classes, adaptation steps: 1" in repr(fitted)
    assert "0 (2), 1 (2), 2 (2)" in repr(fitted)
    said = repr(fitted.predict(np.concatenate([episode.query_x[0]] * 3))).splitlines()
    assert said[0] == "18 predictions among 3 classes"
    assert said[1].split() == ["label", "probability"]
    assert said[-2] == "… and 8 more"
    assert said[-1].startswith("Note: Transductive")


# --- functions ----------------------------------------------------------------------------------


def test_functions_as_the_engine_does_them():
    model, source = fresh_model(FUNCTIONS, shots=10)
    episode = source.episodes([0])
    x, y, q = episode.support_x[0], episode.support_y[0], episode.query_x[0]
    trained = model.trained
    steps = trained.recipe.inner.steps
    ((*_, last),) = trained.predict(trained.tasks(source, [0]), "test", steps)
    expected = last.mean.double().numpy()
    forms = [(x, y, q), (x[:, 0], y[:, 0], q[:, 0]), (torch.from_numpy(x), y.tolist(), q.tolist())]
    forms += [([*torch.from_numpy(x)], [*y], [*q]), (x[:, 0].tolist(), y[:, 0].tolist(), q)]
    for support, values, queries in forms:
        fitted = model.adapt(support, values)
        found = fitted.predict(queries)
        np.testing.assert_array_equal(found.mean, expected)
        assert (found.scale, found.samples, found.notes) == (None, None, ())
        with pytest.raises(AdaptError, match="predicts values"):
            _ = found.labels
        assert (fitted.steps, fitted.classes, len(found)) == (steps, (), len(q))
    assert set(fitted.state_dict()) == set(trained.params)
    assert "adapted to 10 points" in repr(fitted)
    assert "sinusoid, 10-shot; inputs of 1 number" in repr(model)
    assert repr(found).splitlines()[1].split() == ["mean"]
    # Values may be any number of points, and other steps be taken.
    assert model.adapt(x[:3], y[:3], steps=4).steps == 4


@pytest.mark.parametrize(
    ("x", "y", "q", "words"),
    [
        (
            [[1.0, 2.0]],
            [1.0],
            [1.0],
            r"points \[n, 1\] \(or \[n\]\) are needed, got \[1, 2\]",
        ),
        ([1.0, 2.0], [1.0], [1.0], "one for each of 2 support examples is needed, got 1"),
        ([1.0, float("nan")], [1.0, 2.0], [1.0], "support: not all of the numbers are finite"),
        ([1.0], [float("inf")], [1.0], "support values: not all of the numbers are finite"),
        ([1.0], [[1.0, 2.0]], [1.0], r"numbers \[S, 1\] \(or \[S\]\) are needed, got \[1, 2\]"),
        (["a"], [1.0], [1.0], "support: numbers are needed"),
        ([1.0], ["a"], [1.0], "support values: numbers are needed"),
        ([[1.0], [1.0, 2.0]], [1.0, 2.0], [1.0], "support: numbers are needed"),
        ([1j], [1.0], [1.0], "complex128 is no type of numbers"),
        ([True], [1.0], [1.0], "bool is no type of numbers"),
        (None, [1.0], [1.0], "support: numbers are needed.*got NoneType"),
        ([], [], [1.0], "no support point"),
        ([1.0], [1.0], [], "no query point"),
        ([1.0], [1.0], [[1.0, 2.0]], r"query: points"),
    ],
)
def test_points_that_are_none_are_named(x, y, q, words):
    model, _ = fresh_model(FUNCTIONS, shots=10)
    with pytest.raises(AdaptError, match=words):
        model.adapt(x, y).predict(q)


def test_points_of_two_numbers_are_no_list_of_numbers():
    assert ValueInputs((2,)).read([[1, 2], [3, 4]], "x").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(AdaptError, match=r"points \[n, 2\] are needed, got \[2\]"):
        ValueInputs((2,)).read([1, 2], "x")
    with pytest.raises(AdaptError, match="sees numbers, not images"):
        fresh_model(FUNCTIONS, shots=10)[0].inverted()
