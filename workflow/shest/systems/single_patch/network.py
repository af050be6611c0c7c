"""A backbone of timm and a head of one hidden layer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shest.core.errors import InputError
from shest.encode.spec import REGISTRY, EncoderSpec
from shest.encode.weights import find_weights, load_weights

PUBLISHED_BLOCKS = 9  # blocks that the published code trains of a network that is neither ResNet nor EfficientNet


class Network(nn.Module):
    """Expression of patches, (k, 3, px, px) of 0 to 1 -> (k, genes).

    Parameters
    ----------
    backbone
        Gives (k, features).
    genes
        That the head predicts; 0: the network gives the features.
    settings
        Of the system: ``hidden``, ``dropout``, ``bgr``, ``trained``.
    """

    def __init__(self, backbone: nn.Module, genes: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone, self.bgr = backbone, settings["bgr"]
        known = backbone.pretrained_cfg
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(known[name]).view(1, 3, 1, 1), persistent=False)
        blocks = blocks_of(backbone)
        trained = (
            blocks if settings["trained"] == "all" else blocks[len(blocks) - min(settings["trained"], len(blocks)) :]
        )
        self.frozen = [block for block in blocks if not any(block is other for other in trained)]
        for block in self.frozen:
            block.requires_grad_(False)
        self.head = head(backbone.num_features, genes, settings) if genes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.bgr else x
        return self.head(self.backbone((x - self.mean) / self.std))

    def train(self, mode: bool = True) -> "Network":
        """Set the mode; what is frozen keeps its moments."""
        super().train(mode)
        for block in self.frozen:
            block.eval()
        return self


def head(features: int, genes: int, settings: Mapping[str, Any]) -> nn.Sequential:
    """Dropout, linear, ReLU, dropout, linear."""
    dropout, hidden = settings["dropout"], settings["hidden"]
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, genes)
    )


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the parts of a backbone in their order; of a sequence of parts, each of them."""
    blocks: list[nn.Module] = []
    for child in backbone.children():
        blocks += list(child.children()) if isinstance(child, nn.Sequential) and child is not None else [child]
    return [block for block in blocks if any(True for _ in block.parameters())]


def build(settings: Mapping[str, Any], genes: int, weights: bool = True) -> Network:
    """Build the network; its first weights depend on the seed. ``weights``: load those of the backbone.

    Raises
    ------
    InputError
        timm does not know the backbone, or its weights are not there.
    """
    import timm

    name = settings["backbone"]
    torch.manual_seed(settings["seed"])
    try:
        known = timm.get_pretrained_cfg(name)
        sized = {"img_size": settings["px"]} if known and known.fixed_input_size else {}
        backbone = timm.create_model(name, pretrained=False, num_classes=0, **sized)
    except RuntimeError as error:
        remedy = "Name an architecture of timm: timm.list_models()"
        raise InputError("systems: single_patch", f"timm cannot build {name} ({error})", remedy) from None
    if weights:
        spec = EncoderSpec(name, name, weights_of(settings, backbone), backbone.num_features)
        path = find_weights(spec)
        if path is not None:
            load_weights(backbone, path, spec)
    return Network(backbone, genes, settings)


def weights_of(settings: Mapping[str, Any], backbone: nn.Module) -> str:
    """Return where the weights come from, as an encoder's entry says it."""
    if settings["weights"] != "pretrained":
        return settings["weights"]
    known = REGISTRY.get(settings["backbone"], {}).get("weights")
    repository = backbone.pretrained_cfg.get("hf_hub_id")
    if known is None and not repository:
        remedy = "Set the system's setting weights to random, a file or hub:OWNER/NAME"
        raise InputError("systems: single_patch", f"timm names no weights of {settings['backbone']}", remedy)
    return known or f"hub:{repository}"
