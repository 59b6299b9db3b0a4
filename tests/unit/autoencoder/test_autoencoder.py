"""The auto-encoder: its shapes, its losses written again, and that it learns from images alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metadist.autoencoder.network import AutoEncoder, Critic, as_inputs
from metadist.autoencoder.training import Settings, encoded, train
from metadist.compute.determinism import reproducible
from metadist.errors import NumericsError, RecipeError
from metadist.keys import Key

CPU = torch.device("cpu")
SMALL = Settings(latent=2, width=2, batch=8)


def pictures(count: int = 24, side: int = 12, channels: int = 1) -> np.ndarray:
    """White squares on black."""
    images = np.zeros((count, side, side, channels), np.uint8)
    for number, image in enumerate(images):
        at = number % (side - 4)
        image[at : at + 4, 2:6] = 255
    return images


@pytest.mark.parametrize(
    ("shape", "places"),
    [
        ((28, 28, 1), (4, 4)),
        ((84, 84, 3), (6, 6)),
        ((105, 105, 1), (4, 4)),
        ((6, 6, 1), (3, 3)),
        ((12, 20, 3), (3, 5)),
    ],
)
def test_shapes(shape: tuple[int, int, int], places: tuple[int, int]):
    model = AutoEncoder(shape, 3, 2)
    x = as_inputs(torch.zeros((2, *shape), dtype=torch.uint8))
    z = model.encode(x)
    assert z.shape == (2, 3, *places)
    assert model.decode(z).shape == x.shape
    assert Critic(shape, 3, 2)(x).shape == (2,)


def test_inputs_lie_between_minus_one_and_one():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    assert as_inputs(pixels).flatten().tolist() == [-1.0, 1.0]


def test_it_learns_and_the_same_bits_again():
    images = pictures()
    settings = replace(SMALL, steps=40, lr=0.02)
    seen: list[tuple[int, int]] = []
    model, loss = train(images, settings, CPU, lambda done, total: seen.append((done, total)))
    again, same = train(images, settings, CPU)
    assert seen[0] == (0, 40)
    assert seen[-1] == (40, 40)
    # What a picture of one shade, their mean, leaves.
    assert loss < float(as_inputs(torch.from_numpy(images)).var())
    assert loss == same
    one, other = (encoded(net, images, CPU) for net in (model, again))
    assert one.tobytes() == other.tobytes()
    assert one.dtype == np.float32
    assert one.shape == (24, 2 * 3 * 3)
    different, _ = train(images, replace(SMALL, steps=40, seed=1), CPU)
    assert not np.array_equal(one, encoded(different, images, CPU))


def test_an_image_is_embedded_alike_in_any_company():
    model = AutoEncoder((12, 12, 1), 2, 2)
    images = pictures(300)
    whole = encoded(model, images, CPU)
    assert np.allclose(whole[290:], encoded(model, images[290:], CPU), atol=1e-6)


def test_an_update_with_interpolation_is_that_of_the_equations():
    """Equations 1 to 3, with a functional form and plain autograd, then Adam's first update."""
    images = pictures(6)
    settings = replace(SMALL, interpolation=True, steps=1, batch=6, lr=0.01)
    model, _ = train(images, settings, CPU)
    key = Key.of("autoencoder", 0)
    start = key.fold("init").module(lambda: AutoEncoder((12, 12, 1), 2, 2))
    critic = key.fold("critic").module(lambda: Critic((12, 12, 1), 2, 2))

    def convolved(layers: torch.nn.Sequential, x: torch.Tensor, *, halve: bool) -> torch.Tensor:
        convolutions = [layer for layer in layers if isinstance(layer, torch.nn.Conv2d)]
        for place, layer in enumerate(convolutions):
            last = place == len(convolutions) - 1
            stride = 2 if halve and not last else 1
            x = F.conv2d(x, layer.weight, layer.bias, stride=stride, padding=1)
            if not last:
                x = torch.where(x > 0, x, 0.2 * x)
                if not halve:
                    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return x

    with reproducible(CPU):
        # As the batch was drawn: a permutation of all six.
        from data_pipeline.rng import Stream, fold

        rows = Stream(fold("autoencoder batch", 0), 0).sample(6, 6)
        x = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        z = convolved(start.encoder, x, halve=True)
        alpha = key.fold("share", 0).uniform((6, 1, 1, 1)) / 2
        assert ((alpha > 0) & (alpha < 0.5)).all()
        mixed = convolved(start.decoder, alpha * z + (1 - alpha) * z.flip(0), halve=False)
        told = convolved(critic.layers, mixed, halve=True).mean((1, 2, 3))
        again = convolved(start.decoder, z, halve=False)
        loss = ((x - again) ** 2).mean() + 0.5 * (told**2).mean()
        gradients = torch.autograd.grad(loss, list(start.parameters()))
    for before, after, gradient in zip(
        start.parameters(), model.parameters(), gradients, strict=True
    ):
        # The first update of Adam: the rate times the sign, where the gradient is not tiny.
        clear = gradient.abs() > 1e-4
        assert clear.any()
        moved = (after - before)[clear]
        assert torch.allclose(moved, -0.01 * gradient[clear].sign(), atol=1e-4)


def test_the_critic_is_trained_to_tell_the_share():
    """Interpolation changes what is learned, and the critic's loss is the one of the paper."""
    from metadist.autoencoder.training import _critic_loss

    images = pictures()
    plain, with_it = (
        train(images, replace(SMALL, interpolation=on, steps=5), CPU)[0] for on in (False, True)
    )
    assert not np.array_equal(encoded(plain, images, CPU), encoded(with_it, images, CPU))
    critic = Critic((12, 12, 1), 2, 2)
    x, again, mixed = (torch.rand(4, 1, 12, 12) for _ in range(3))
    share = torch.rand(4, 1, 1, 1) / 2
    d = critic
    by_hand = ((d(mixed) - share[:, 0, 0, 0]) ** 2).mean() + (d(0.2 * x + 0.8 * again) ** 2).mean()
    assert torch.allclose(_critic_loss(critic, x, again, mixed, share), by_hand, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"latent": 0}, {"steps": 0}, {"batch": 1}, {"lr": 0.0}], ids=str)
def test_settings_that_cannot_be_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(RecipeError, match=f"{name}: .* needed"):
        Settings(**wrong)


def test_a_loss_that_is_not_finite_ends_it():
    with pytest.raises(NumericsError, match=r"lower the learning rate \(--lr 1e\+30\)"):
        train(pictures(), replace(SMALL, steps=9, lr=1e30), CPU)
