"""Training of the auto-encoder, with adversarial interpolation as an option.

Berthelot, Raffel, Roy & Goodfellow, "Understanding and Improving Interpolation in Autoencoders via
an Adversarial Regularizer" (ACAI), ICLR 2019, equations 1 to 3, weights as in the released code: of
two images that are decoded from a mixture of their embeddings, a critic is to tell the share alpha
of the one that is mixed in less, and the auto-encoder is to have it say 0:

    L_critic  = |d(x_alpha) - alpha|^2 + |d(gamma x + (1 - gamma) g(f(x)))|^2
    L_encoder = |x - g(f(x))|^2 + lambda |d(x_alpha)|^2,   x_alpha = g(alpha z_1 + (1 - alpha) z_2)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_pipeline.rng import Stream, fold
from metadist.autoencoder.network import AutoEncoder, Critic, as_inputs
from metadist.compute.determinism import reproducible
from metadist.compute.device import keep_freed_memory
from metadist.errors import NumericsError, RecipeError
from metadist.keys import Key

#: lambda and gamma.
_ADVERSARY, _SHARE = 0.5, 0.2
#: Images that are embedded at once.
_AT_ONCE = 256


@dataclass(frozen=True)
class Settings:
    """How it is trained.

    Attributes:
        interpolation: with a critic of interpolations.
        latent: channels of the embedding.
        width: channels of the first convolution.
        steps: updates.
        batch: images of an update, at most as many as there are.
        lr: Adam's learning rate.
        seed: of initialisation, batches and shares.
    """

    interpolation: bool = False
    latent: int = 16
    width: int = 32
    steps: int = 2000
    batch: int = 64
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"latent": 1, "width": 1, "steps": 1, "batch": 2, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise RecipeError(f"{name}: at least {bound} is needed, got {getattr(self, name)}")
        if self.lr <= 0:
            raise RecipeError(f"lr: a learning rate above 0 is needed, got {self.lr}")


def train(
    images: NDArray[np.uint8],
    settings: Settings,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[AutoEncoder, float]:
    """Train on images alone; a function of images and settings on a given machine.

    Args:
        images: uint8 [n, H, W, C].
        progress: called with (updates done, updates).

    Returns:
        The auto-encoder, and the mean squared error of reconstructions over the last tenth of the
        updates.

    Raises:
        NumericsError: the loss is not finite.
    """
    height, width, channels = images.shape[1:]
    shape, sizes = (height, width, channels), (settings.latent, settings.width)
    key = Key.of("autoencoder", settings.seed)
    model = key.fold("init").module(lambda: AutoEncoder(shape, *sizes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    critic = key.fold("critic").module(lambda: Critic(shape, *sizes)).to(device)
    judge = torch.optim.Adam(critic.parameters(), settings.lr)
    batch = min(settings.batch, len(images))
    losses: list[float] = []
    keep_freed_memory()
    with reproducible(device):
        for step in range(settings.steps):
            if progress is not None:
                progress(step, settings.steps)
            rows = Stream(fold("autoencoder batch", settings.seed), step).sample(len(images), batch)
            x = as_inputs(torch.from_numpy(images[rows]).to(device))
            share = 0.5 * key.fold("share", step).uniform((batch, 1, 1, 1)).to(device)
            z = model.encode(x)
            again = model.decode(z)
            loss = (x - again).square().mean()
            total = loss
            if settings.interpolation:
                mixed = model.decode(share * z + (1 - share) * z.flip(0))
                total = loss + _ADVERSARY * critic(mixed).square().mean()
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if settings.interpolation:
                judge.zero_grad()
                told = _critic_loss(critic, x, again.detach(), mixed.detach(), share)
                told.backward()  # type: ignore[no-untyped-call]
                judge.step()
            losses.append(float(loss.detach()))
            if not np.isfinite(losses[-1]):
                raise NumericsError(
                    f"auto-encoder: the loss of update {step + 1} is {losses[-1]}; lower the "
                    f"learning rate (--lr {settings.lr:g})"
                )
    if progress is not None:
        progress(settings.steps, settings.steps)
    return model, float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _critic_loss(critic: Critic, x: Tensor, again: Tensor, mixed: Tensor, share: Tensor) -> Tensor:
    told: Tensor = (critic(mixed) - share.flatten()).square().mean()
    none: Tensor = critic(again + _SHARE * (x - again)).square().mean()
    return told + none


def encoded(
    model: AutoEncoder, images: NDArray[np.uint8], device: torch.device
) -> NDArray[np.float32]:
    """The embeddings of images, float32 [n, latent * h * w]."""
    found = []
    with reproducible(device), torch.no_grad():
        for first in range(0, len(images), _AT_ONCE):
            x = as_inputs(torch.from_numpy(np.array(images[first : first + _AT_ONCE])).to(device))
            found.append(model.encode(x).flatten(1).cpu().numpy())
    return np.concatenate(found)
