"""Settings of systems that train a network on patches, as their specs name them; nothing heavy is imported here."""

import math
from collections.abc import Mapping
from typing import Any

from shest.systems.base import patch_settings

AUGMENTATIONS = ("none", "mpa", "stnet")
GPU = 400.0  # cores that it stands for, when it multiplies matrices in bf16
CPU_GFLOPS = 30  # of one core, in convolutions, both directions
UNITS = 20_000  # units that a fit is thought to have: more are rare


def training_settings(
    side_um: float,
    px: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    schedule: str = "constant",
    augment: str = "none",
    patience: int = 10,
) -> dict[str, Any]:
    """Return the settings of patches and of training on them, with these defaults."""
    return patch_settings(side_um, px) | {
        "epochs": {
            "type": "integer",
            "minimum": 1,
            "default": epochs,
            "description": "Passes over the training units.",
        },
        "batch": {"type": "integer", "minimum": 2, "default": batch, "description": "Patches at once."},
        "accumulate": {
            "type": "integer",
            "minimum": 1,
            "default": 1,
            "description": "Batches whose gradients make one step.",
        },
        "learning_rate": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": learning_rate,
            "description": "Of Adam, at the first step.",
        },
        "schedule": {
            "enum": ["constant", "cosine"],
            "default": schedule,
            "description": "What becomes of the learning rate; cosine: it falls to 0 over all epochs.",
        },
        "augment": {
            "enum": list(AUGMENTATIONS),
            "default": augment,
            "description": "What is done to training patches. mpa: mirrored, transposed, shifted, scaled, rotated; "
            "stnet: quarter turns, mirrored, colours changed, blurred.",
        },
        "patience": {
            "type": "integer",
            "minimum": 1,
            "default": patience,
            "description": "Epochs without a lower loss on validation units after which training is done.",
        },
        "shuffle": {
            "type": "boolean",
            "default": False,
            "description": "A control: units of a sample exchange their counts before the fit, and what is predicted "
            "of them after it. What a score still has then needs no image.",
        },
        "precision": {
            "enum": ["auto", "fp32"],
            "default": "auto",
            "description": "auto: bf16 on a GPU, fp32 on a CPU.",
        },
    }


def backbone_settings(backbone: str | None, trained: int | str) -> dict[str, Any]:
    """Return the settings of a backbone of timm, with these defaults; None: none by default."""
    return {
        "backbone": {
            "type": "string" if backbone else ["string", "null"],
            "default": backbone,
            "description": "An architecture of timm: efficientnet_b0, efficientnet_b7, resnet18, resnet50, "
            "densenet121, mobilenetv2_100, or any other."
            + ("" if backbone else " Without one the system reads embeddings of its encoder."),
        },
        "weights": {
            "type": "string",
            "default": "pretrained",
            "description": "Of the backbone at the first step. pretrained: those that timm names, from the hub; "
            "random; hub:OWNER/NAME; or a file or folder with model.safetensors, absolute.",
        },
        "trained": {
            "anyOf": [{"const": "all"}, {"type": "integer", "minimum": 0}],
            "default": trained,
            "description": "How many of the backbone's last blocks are trained; 0: it stays frozen.",
        },
    }


def stain_settings(stain: str) -> dict[str, Any]:
    """Return the settings of what is done to colours before a network sees them, with this default."""
    return {
        "stain": {
            "enum": ["macenko", "vahadane", "cast", "none"],
            "default": stain,
            "description": "cast: each channel's 99th percentile in the sample becomes white; macenko, vahadane: that, "
            "and then its stains, found by this method, are brought to those of a training sample; none: pixels as "
            "they are.",
        },
        "stain_target": {
            "type": ["string", "null"],
            "default": None,
            "description": "The training sample whose stains all are brought to; null, and in folds without it: the "
            "first.",
        },
    }


def seconds(gflop: float, px: int, epochs: int, settings: Mapping[str, Any], threads: int, gpu: bool) -> float:
    """Estimate the time to train on patches, s; ``gflop``: of a patch of ``px``, forwards."""
    work = 3 * gflop * (settings["px"] / px) ** 2 * UNITS * epochs
    return math.ceil(work / (CPU_GFLOPS * (GPU if gpu else threads)))
