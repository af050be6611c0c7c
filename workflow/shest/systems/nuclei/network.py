"""Networks that tell nuclei, how far each pixel lies from its nucleus's centre, and types; and what they are taught by.

Branches and losses are those of HoVer-Net (Graham et al. 2019) and CellViT (Hoerst et al. 2024): nucleus (cross-entropy
and Dice), horizontal and vertical distances (squared error and that of their gradients, on nuclei), type (cross-entropy
and Dice, on nuclei with a label). Their focal and weighted variants are left out: the plain ones are known to do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from shest.core.errors import InputError, one_line

WIDTHS = (16, 32, 64, 96)  # of the levels of ``small``, from full size down
ALIGN = 32  # px: sides that every network takes
IGNORED = -1  # class of a pixel that is left out of a loss
GRADIENT_WEIGHT = 2.0  # of the gradients' error over that of the distances


class Maps(NamedTuple):
    """What a network says of n windows of h x w pixels.

    Attributes
    ----------
    nucleus
        (n, h, w): logit of being nucleus.
    distance
        (n, 2, h, w): horizontal and vertical place within the nucleus, -1 to 1 from edge to edge.
    types
        (n, classes, h, w): logits, where there is a nucleus.
    levels
        Feature maps, (n, c, h / 2^k, w / 2^k), from full size down.
    """

    nucleus: Tensor
    distance: Tensor
    types: Tensor
    levels: tuple[Tensor, ...]


class Truth(NamedTuple):
    """What a network is taught: ``nucleus`` (n, h, w) 0, 1 or :data:`IGNORED`; ``distance`` (n, 2, h, w);
    ``types`` (n, h, w), a class or :data:`IGNORED`."""

    nucleus: Tensor
    distance: Tensor
    types: Tensor


def convolutions(before: int, width: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for first in (before, width):
        layers += [nn.Conv2d(first, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def double(x: Tensor) -> Tensor:
    """Repeat each pixel twice in both axes."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Branches(nn.Module):
    """The branches, each a 1 x 1 convolution of the last map."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.nucleus, self.distance, self.types = (nn.Conv2d(width, k, 1) for k in (1, 2, classes))

    def forward(self, levels: Sequence[Tensor]) -> Maps:
        last = levels[0]
        return Maps(self.nucleus(last)[:, 0], self.distance(last), self.types(last), tuple(levels))


class Small(nn.Module):
    """A U-Net of 0.39 million weights; takes (n, 3, h, w) in 0 to 1, sides a multiple of 8."""

    features = WIDTHS
    margin = 44  # px that a pixel's answer depends on, to each side: two convolutions a level, down and up

    def __init__(self, classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(convolutions(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))
        self.up = nn.ModuleList(convolutions(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.branches = Branches(widths[0], classes)

    def forward(self, x: Tensor) -> Maps:
        """Return the maps of windows."""
        x, ways = (x - 0.5) * 4, []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            ways.append(x)
        levels = [x]
        for block, way in zip(self.up, ways[-2::-1], strict=True):
            x = block(torch.cat([way, double(x)], dim=1))
            levels.insert(0, x)
        return self.branches(levels)


class Vit(nn.Module):
    """A timm backbone that returns features by layer, four of them, under a decoder like that of CellViT.

    Parameters
    ----------
    backbone
        With ``forward_intermediates``; its patches are 8, 14 or 16 px.
    """

    features = WIDTHS
    margin = 64  # a transformer sees all of its window: what is beyond this changes little, and seams are not exact

    def __init__(self, backbone: nn.Module, classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.backbone = backbone
        depth = len(backbone.blocks)
        self.taken = [round(depth * k / 4) - 1 for k in (4, 3, 2)]
        config = backbone.pretrained_cfg
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(config[name]).view(1, 3, 1, 1), persistent=False)
        self.first = convolutions(3, widths[0])
        self.bring = nn.ModuleList(nn.Conv2d(backbone.embed_dim, w, 1) for w in widths[:0:-1])
        self.up = nn.ModuleList(convolutions(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.branches = Branches(widths[0], classes)

    def forward(self, x: Tensor) -> Maps:
        """Return the maps of windows, (n, 3, h, w), sides a multiple of :data:`ALIGN`."""
        shape, normal = x.shape[-2:], (x - self.mean) / self.std
        patch = self.backbone.patch_embed.patch_size[0]
        fits = [-(-side // patch) * patch for side in shape]
        if fits != list(shape):
            normal = F.interpolate(normal, size=fits, mode="bilinear", align_corners=False)
        found = self.backbone.forward_intermediates(normal, indices=sorted(self.taken), intermediates_only=True)
        maps = [bring(m) for bring, m in zip(self.bring, found[::-1], strict=True)]
        sizes = [[side // 2**k for side in shape] for k in (3, 2, 1)]
        maps = [F.interpolate(m, size=s, mode="bilinear") for m, s in zip(maps, sizes, strict=True)]
        ways = [*maps[1:], self.first((x - 0.5) * 4)]
        x, levels = maps[0], [maps[0]]
        for block, way in zip(self.up, ways, strict=True):
            x = block(torch.cat([way, double(x)], dim=1))
            levels.insert(0, x)
        return self.branches(levels)


def build(settings: Mapping[str, Any], classes: int, weights: bool = True) -> nn.Module:
    """Make a network by its settings; ``weights``: load those of a backbone, where they are named.

    Raises
    ------
    InputError
        timm cannot build the backbone, or the weights are not its own.
    """
    if settings["size"] == "small":
        return Small(classes)
    import timm

    name, path = settings["backbone"], settings["backbone_weights"]
    try:
        backbone = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        if path and weights:
            backbone.load_state_dict(load_file(path))
    except (RuntimeError, TypeError, OSError) as error:
        remedy = "Name a vision transformer of timm, and a safetensors file of its weights"
        raise InputError("systems: backbone", f"{name} cannot be built ({one_line(error)})", remedy) from None
    return Vit(backbone, classes)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context for the layers: bfloat16 if asked for, or if ``auto`` and the processor multiplies it in hardware."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and fast))


def dice_loss(probability: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Return 1 - Dice over all counted pixels, of each channel, mean; each (channels, pixels)."""
    probability, truth = probability * counted, truth * counted
    shared = 2 * (probability * truth).sum(dim=1)
    return (1 - (shared + 1) / (probability.sum(dim=1) + truth.sum(dim=1) + 1)).mean()


def nucleus_loss(logit: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy and Dice of being nucleus over the pixels that are not :data:`IGNORED`; (n, h, w) both."""
    counted = truth != IGNORED
    target = (truth == 1).to(logit.dtype)
    each = F.binary_cross_entropy_with_logits(logit, target, reduction="none") * counted
    flat = [v.reshape(1, -1) for v in (logit.sigmoid(), target, counted)]
    return each.sum() / counted.sum().clamp(min=1) + dice_loss(*flat)


def slopes(distance: Tensor) -> Tensor:
    """Return the gradient of each distance along its own axis, (n, 2, h, w), over two pixels."""
    padded = F.pad(distance, (1, 1, 1, 1), mode="replicate")
    across = padded[:, 0, 1:-1, 2:] - padded[:, 0, 1:-1, :-2]
    along = padded[:, 1, 2:, 1:-1] - padded[:, 1, :-2, 1:-1]
    return torch.stack([across, along], dim=1)


def distance_loss(distance: Tensor, truth: Tensor, nucleus: Tensor) -> Tensor:
    """Squared error of the distances and of their gradients, mean over the pixels of nuclei."""
    on = (nucleus == 1).unsqueeze(1)
    number = (2 * on.sum()).clamp(min=1)
    plain = ((distance - truth).square() * on).sum()
    steep = ((slopes(distance * on) - slopes(truth * on)).square() * on).sum()
    return (plain + GRADIENT_WEIGHT * steep) / number


def type_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy and Dice of the types over the pixels with a label; (n, c, h, w) and (n, h, w)."""
    counted = truth != IGNORED
    if not bool(counted.any()):
        return logits.sum() * 0
    each = F.cross_entropy(logits, truth.clamp(min=0), reduction="none") * counted
    classes = logits.shape[1]
    probability = logits.softmax(dim=1).transpose(0, 1).reshape(classes, -1)
    target = F.one_hot(truth.clamp(min=0), classes).permute(3, 0, 1, 2).reshape(classes, -1)
    flat = counted.reshape(1, -1)
    present = (target * flat).any(dim=1)  # Dice of a type that is not there says nothing
    return each.sum() / counted.sum() + dice_loss(probability[present], target[present], flat)


def loss(maps: Maps, truth: Truth) -> Tensor:
    """Sum of the branches' losses, float32."""
    return (
        nucleus_loss(maps.nucleus.float(), truth.nucleus)
        + distance_loss(maps.distance.float(), truth.distance, truth.nucleus)
        + type_loss(maps.types.float(), truth.types)
    )
