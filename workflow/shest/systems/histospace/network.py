"""Autoencoder and predictor of HistoSPACE (arXiv 2408.03592, section 3.1; layers as in its code)."""

import itertools

import torch
from torch import Tensor, nn

WIDTHS = (3, 32, 64, 128)
HIDDEN = 256


class Encoder(nn.Sequential):
    """Three times convolution and pooling, (k, 3, s, s) of -1 to 1 -> (k, 128, s / 8, s / 8)."""

    def __init__(self, variant: str) -> None:
        layers: list[nn.Module] = []
        for before, width in itertools.pairwise(WIDTHS):
            layers.append(nn.Conv2d(before, width, 3, padding=1))
            if variant == "AE3":
                layers.append(nn.BatchNorm2d(width))
            if variant in ("AE2", "AE3"):
                layers.append(nn.ReLU())
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers)


class AutoEncoder(nn.Module):
    """The encoder and its mirror image of transposed convolutions.

    Parameters
    ----------
    variant
        ``AE1``, ``AE2`` or ``AE3``.
    as_published
        End in a sigmoid: what is darker than the middle cannot be shown. Else in a tanh, the range of the pixels.
    """

    def __init__(self, variant: str, as_published: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder(variant)
        layers: list[nn.Module] = []
        for before, width in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True):
            layers.append(nn.ConvTranspose2d(before, width, 4, stride=2, padding=1))
            if width != WIDTHS[0]:
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.Sigmoid() if as_published else nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Predictor(nn.Module):
    """Expression of patches by a frozen encoder: a convolution, and two linear layers with nothing between them.

    Without a non-linearity both layers are one linear map of rank 256 at most: kept as published.

    Parameters
    ----------
    encoder
        Trained; it is frozen here.
    px
        Side of the patches, a multiple of 16.
    genes
        That are predicted.
    moving
        Let the moments of its batch normalisation move on, as published; else it stays as it is, to the bit.
    """

    def __init__(self, encoder: Encoder, px: int, genes: int, moving: bool = False) -> None:
        super().__init__()
        self.encoder, self.moving = encoder.requires_grad_(False), moving
        wide = WIDTHS[-1]
        self.head = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(wide * (px // 16) ** 2, HIDDEN),
            nn.Linear(HIDDEN, genes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))

    def train(self, mode: bool = True) -> "Predictor":
        super().train(mode)
        if not self.moving:
            self.encoder.eval()
        return self


def expression_loss(kind: str, found: Tensor, target: Tensor, measured: Tensor | None) -> Tensor:
    """Return ``mse``, ``rmse`` or ``huber`` (delta 1) over what was measured, (k, genes) each."""
    error = nn.functional.huber_loss(found, target, reduction="none") if kind == "huber" else (found - target) ** 2
    mean = error.mean() if measured is None else (error * measured).sum() / measured.sum().clamp(min=1)
    return torch.sqrt(mean) if kind == "rmse" else mean
