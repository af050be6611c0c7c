"""A backbone of timm and a head of one hidden layer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from shest.systems.backbone import OnBackbone, make

PUBLISHED_BLOCKS = 9  # blocks that the published code trains of a network that is neither ResNet nor EfficientNet


def head(features: int, genes: int, settings: Mapping[str, Any]) -> nn.Sequential:
    """Dropout, linear, ReLU, dropout, linear."""
    dropout, hidden = settings["dropout"], settings["hidden"]
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, genes)
    )


def build(settings: Mapping[str, Any], genes: int, weights: bool = True) -> OnBackbone:
    """Build the network; its first weights depend on the seed.

    ``genes``: that the head predicts; 0: the network gives the features. ``weights``: load those of the backbone.
    """
    torch.manual_seed(settings["seed"])
    backbone = make(settings, weights)
    on_top = head(backbone.num_features, genes, settings) if genes else nn.Identity()
    return OnBackbone(backbone, on_top, settings["trained"], bgr=settings["bgr"])
