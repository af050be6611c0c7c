"""The two heads on an embedding: cell type and expression (paper, "Model architecture")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

CLASSIFIER_HIDDEN = (1024, 512)
RECONSTRUCTOR_HIDDEN = (2048, 4096)
DROPOUT = 0.3
HEADS = ("classifier", "reconstructor")


@dataclass(frozen=True)
class Settings:
    """What the config says of the heads and of their training."""

    views: str | int = 1
    draws: str = "natural"
    members: int = 1
    seed: int = 42
    epochs: int = 40
    batch: int = 1024
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    patience: int = 10
    dropout: float = DROPOUT
    classifier_hidden: tuple[int, ...] = CLASSIFIER_HIDDEN
    reconstructor_hidden: tuple[int, ...] = RECONSTRUCTOR_HIDDEN
    precision: str = "auto"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """Take the keys that concern training out of a config section."""
        names = {f.name for f in fields(cls)}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in names})


def hidden_layers(dim: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """LayerNorm of the input, then for each width: linear, LayerNorm, ReLU, dropout."""
    layers: list[nn.Module] = [nn.LayerNorm(dim)]
    for before, width in zip([dim, *widths], widths, strict=False):
        layers += [nn.Linear(before, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def initialise(module: nn.Module) -> None:
    """Kaiming-He weights and zero biases for every linear layer below ``module``."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


class Classifier(nn.Module):
    """Type logits (n, classes) of standardised embeddings (n, dim)."""

    def __init__(
        self, dim: int, classes: int, hidden: Sequence[int] = CLASSIFIER_HIDDEN, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.hidden = hidden_layers(dim, hidden, dropout)
        self.cell_type = nn.Linear(hidden[-1], classes)
        initialise(self)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return type logits (n, classes)."""
        return self.cell_type(self.hidden(embeddings))


class Reconstructor(nn.Module):
    """Logits of mean, dispersion and zero inflation, each (n, genes), of standardised embeddings (n, dim)."""

    def __init__(
        self, dim: int, genes: int, hidden: Sequence[int] = RECONSTRUCTOR_HIDDEN, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.hidden = hidden_layers(dim, hidden, dropout)
        self.mean = nn.Linear(hidden[-1], genes)
        self.dispersion = nn.Linear(hidden[-1], genes)
        self.inflation = nn.Linear(hidden[-1], genes)
        initialise(self)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of mu, theta and pi; see :mod:`shest.systems.zinb`."""
        hidden = self.hidden(embeddings)
        return self.mean(hidden), self.dispersion(hidden), self.inflation(hidden)


def parameter_ranges(head: nn.Module) -> str:
    """Smallest and largest value of each parameter, for the message that ends a failed training."""
    with torch.no_grad():
        return ", ".join(f"{name} {p.min().item():.3g} to {p.max().item():.3g}" for name, p in head.named_parameters())


def build_heads(dim: int, classes: int, genes: int, settings: Settings) -> dict[str, nn.Module]:
    """Make untrained heads."""
    return {
        "classifier": Classifier(dim, classes, settings.classifier_hidden, settings.dropout),
        "reconstructor": Reconstructor(dim, genes, settings.reconstructor_hidden, settings.dropout),
    }
