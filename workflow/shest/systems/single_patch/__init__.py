"""The single-patch baseline: an image network and a wide head on one patch, trained as a whole."""

from collections.abc import Mapping
from typing import Any

from shest.encode.spec import GFLOP
from shest.systems.base import SystemSpec
from shest.systems.patch_settings import backbone_settings, seconds, stain_settings, training_settings


def fit_seconds(settings: Mapping[str, Any], threads: int, gpu: bool) -> float:
    """Estimate how long a fit takes, s."""
    gflop = GFLOP.get(settings["backbone"], max(GFLOP["densenet121"], GFLOP["resnet50"]))
    return seconds(gflop, 224, settings["epochs"], settings, threads, gpu)


SPEC = SystemSpec(
    "shest.systems.single_patch.system:SinglePatch",
    reads="patches",
    units=("cells", "spots"),
    fit_seconds=fit_seconds,
    train_keys=("seed",),
    settings=training_settings(68, 224, epochs=30, batch=32, learning_rate=3e-4, schedule="cosine", augment="mpa")
    | backbone_settings("efficientnet_b0", trained="all")
    | stain_settings("none")
    | {
        "head": {
            "enum": ["mlp", "ridge"],
            "default": "mlp",
            "description": "mlp: one hidden layer; ridge: ridge regression on the features of the frozen backbone.",
        },
        "hidden": {
            "type": "integer",
            "minimum": 1,
            "default": 3000,
            "description": "Width of the head's hidden layer.",
        },
        "dropout": {
            "type": "number",
            "minimum": 0,
            "exclusiveMaximum": 1,
            "default": 0.5,
            "description": "Before both layers of the head.",
        },
        "markers": {
            "type": "array",
            "items": {"type": "string"},
            "default": [],
            "description": "Genes that are scored as a set of their own, beside the 50 highest and most variable.",
        },
        "bgr": {"type": "boolean", "default": False, "description": "Give the backbone blue first, as published."},
        "as_published": {
            "type": "boolean",
            "default": False,
            "description": "As the published code ran: blue first, the learning rate constant, ResNets frozen and the "
            "last nine blocks of others than EfficientNets trained, no start from the mean expression.",
        },
    },
)
