"""A segmenter that also types: one pass over a slide gives nuclei, their types and their expression."""

from collections.abc import Mapping
from typing import Any

from shest.systems.base import SystemSpec

WINDOW_UM = 16.0  # around a nucleus that is held out: no training patch meets it
SECONDS_A_PIXEL = {"small": 4e-6, "vit": 4e-5}  # of training, on one core
GPU = 20.0  # cores that it stands for


def fit_seconds(settings: Mapping[str, Any], threads: int, gpu: bool) -> float:
    """Estimate how long a fit takes, s."""
    pixels = settings["steps"] * settings["batch"] * settings["patch_px"] ** 2
    return SECONDS_A_PIXEL[settings["size"]] * pixels / (GPU if gpu else threads)


SPEC = SystemSpec(
    "shest.systems.nuclei.system:Nuclei",
    reads="slide",
    window_um=WINDOW_UM,
    outlines=True,
    fit_seconds=fit_seconds,
    train_keys=("seed",),
    settings={
        "size": {
            "enum": ["small", "vit"],
            "default": "small",
            "description": "small: a U-Net of 0.4 million weights of its own, at 0.5 µm/px; vit: a timm backbone under "
            "a decoder.",
        },
        "backbone": {
            "type": "string",
            "default": "vit_small_patch16_224",
            "description": "vit: an architecture of timm that returns features by layer.",
        },
        "backbone_weights": {
            "type": ["string", "null"],
            "default": None,
            "description": "vit: a safetensors file of its weights, absolute; without, it is trained from nothing.",
        },
        "mpp": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 2,
            "default": 0.5,
            "description": "µm per px of what the network is given.",
        },
        "patch_px": {
            "type": "integer",
            "minimum": 32,
            "multipleOf": 32,
            "default": 128,
            "description": "Side of a training patch, px of mpp.",
        },
        "batch": {"type": "integer", "minimum": 1, "default": 8, "description": "Patches a step."},
        "steps": {
            "type": "integer",
            "minimum": 1,
            "default": 3700,
            "description": "Steps of training; the learning rate falls to 0 over them.",
        },
        "learning_rate": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 0.002,
            "description": "Of AdamW, at the first step.",
        },
        "checks": {
            "type": "integer",
            "minimum": 1,
            "default": 20,
            "description": "How often, in all, validation patches are looked at; the weights of best panoptic quality "
            "are kept.",
        },
        "patience": {
            "type": "integer",
            "minimum": 1,
            "default": 8,
            "description": "Checks without a better one after which training is done.",
        },
        "precision": {
            "enum": ["auto", "bf16", "fp32"],
            "default": "auto",
            "description": "Of the network's layers; auto: bf16 where the processor multiplies it in hardware.",
        },
        "jitter": {
            "type": "number",
            "minimum": 0,
            "maximum": 0.9,
            "default": 0.25,
            "description": "How far the density of each stain is changed, at most, as a share of itself.",
        },
        "missed": {
            "type": "boolean",
            "default": True,
            "description": "Leave out of the loss what looks like a nucleus and has no outline: it may be missed.",
        },
    },
)
