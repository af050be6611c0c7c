"""A backbone of timm with a head on it: where its first weights come from, and what of it is trained."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shest.core.errors import InputError
from shest.encode.spec import REGISTRY, EncoderSpec
from shest.encode.weights import find_weights, load_weights


class OnBackbone(nn.Module):
    """A head on a backbone, (k, 3, px, px) of 0 to 1 -> (k, outputs).

    Parameters
    ----------
    backbone
        Gives (k, features).
    head
        Of the features; an identity gives the features themselves.
    trained
        How many of the backbone's last blocks are trained, or ``all``.
    bgr
        Give it blue first.
    raw
        Give it values of 0 to 255, not shifted and scaled as its first weights expect.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, trained: int | str, bgr: bool = False, raw: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.bgr = backbone, bgr
        known = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3} if raw else backbone.pretrained_cfg
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(known[name]).view(1, 3, 1, 1), persistent=False)
        blocks = blocks_of(backbone)
        last = blocks if trained == "all" else blocks[len(blocks) - min(trained, len(blocks)) :]
        self.frozen = [block for block in blocks if not any(block is other for other in last)]
        for block in self.frozen:
            block.requires_grad_(False)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.bgr else x
        return self.head(self.backbone((x - self.mean) / self.std))

    def train(self, mode: bool = True) -> "OnBackbone":
        """Set the mode; what is frozen keeps its moments."""
        super().train(mode)
        for block in self.frozen:
            block.eval()
        return self


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the parts of a backbone in their order; of a sequence of parts, each of them."""
    blocks: list[nn.Module] = []
    for child in backbone.children():
        blocks += list(child.children()) if isinstance(child, nn.Sequential) and child is not None else [child]
    return [block for block in blocks if any(True for _ in block.parameters())]


def make(settings: Mapping[str, Any], weights: bool = True) -> nn.Module:
    """Build a backbone; its first weights are drawn by torch's generator, or loaded.

    Parameters
    ----------
    settings
        ``backbone``, ``weights``, ``px``; see :func:`shest.systems.patch_settings.backbone_settings`.
    weights
        Whether those that the settings name are loaded.

    Raises
    ------
    InputError
        timm does not know the backbone, or its weights are not there.
    """
    import timm

    name = settings["backbone"]
    try:
        known = timm.get_pretrained_cfg(name)
        sized = {"img_size": settings["px"]} if known and known.fixed_input_size else {}
        backbone = timm.create_model(name, pretrained=False, num_classes=0, **sized)
    except RuntimeError as error:
        remedy = "Name an architecture of timm: timm.list_models()"
        raise InputError("systems: backbone", f"timm cannot build {name} ({error})", remedy) from None
    if weights:
        spec = EncoderSpec(name, name, _weights_of(settings, backbone), backbone.num_features)
        path = find_weights(spec)
        if path is not None:
            load_weights(backbone, path, spec)
    return backbone


def _weights_of(settings: Mapping[str, Any], backbone: nn.Module) -> str:
    """Return where the weights come from, as an encoder's entry says it."""
    if settings["weights"] != "pretrained":
        return settings["weights"]
    known = REGISTRY.get(settings["backbone"], {}).get("weights")
    repository = backbone.pretrained_cfg.get("hf_hub_id")
    if known is None and not repository:
        remedy = "Set the system's setting weights to random, a file or hub:OWNER/NAME"
        raise InputError("systems: backbone", f"timm names no weights of {settings['backbone']}", remedy)
    return known or f"hub:{repository}"
