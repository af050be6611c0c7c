"""STImage (Tan et al. 2026): a negative binomial a gene by an ensemble of seeds, on embeddings or on a backbone."""

from collections.abc import Mapping
from typing import Any

from shest.encode.spec import GFLOP
from shest.systems.base import SystemSpec, patch_settings
from shest.systems.patch_settings import AUGMENTATIONS, backbone_settings, seconds, stain_settings


def fit_seconds(settings: Mapping[str, Any], threads: int, gpu: bool) -> float | None:
    """Estimate how long a fit on patches takes, s; a frozen backbone sees each unit once, and only forwards."""
    if settings["backbone"] is None:
        return None
    gflop = GFLOP.get(settings["backbone"], GFLOP["resnet50"])
    passes = settings["epochs"] * settings["members"] if settings["trained"] != 0 else 1
    return seconds(gflop, 224, passes, settings, threads, gpu)


SPEC = SystemSpec(
    "shest.systems.stimage.system:STImage",
    units=("cells", "spots"),
    patches_with="backbone",
    fit_seconds=fit_seconds,
    train_keys=("seed",),
    settings=backbone_settings(None, trained=0)
    | patch_settings(100, 224)
    | stain_settings("none")
    | {
        "input": {
            "enum": ["scaled", "raw"],
            "default": "scaled",
            "description": "What the backbone is given. scaled: colours as its first weights expect them; raw: values "
            "of 0 to 255, as published for the regression.",
        },
        "augment": {
            "enum": list(AUGMENTATIONS),
            "default": "none",
            "description": "What is done to training patches where the backbone is trained. mpa: mirrored, transposed, "
            "shifted, scaled, rotated; stnet: quarter turns, mirrored, colours changed, blurred.",
        },
        "members": {
            "type": "integer",
            "minimum": 1,
            "default": 5,
            "description": "Seeds that are trained, each on its own; one alone has no epistemic variance.",
        },
        "target": {
            "enum": ["counts", "log1p"],
            "default": "counts",
            "description": "What the negative binomial is fitted to; log1p of the counts, as published, has no whole "
            "numbers.",
        },
        "exposure": {
            "enum": ["none", "library"],
            "default": "none",
            "description": "library: a unit's mean is proportional to its total count; predicted for the median unit.",
        },
        "bounded": {
            "type": "boolean",
            "default": True,
            "description": "No gene is expected above its largest count among the training units; not published.",
        },
        "standardise": {
            "type": "boolean",
            "default": True,
            "description": "Scale each feature by the training units' mean and deviation, where the backbone is "
            "frozen; not published.",
        },
        "epochs": {"type": "integer", "minimum": 1, "default": 100, "description": "Most epochs."},
        "batch": {
            "type": "integer",
            "minimum": 1,
            "default": 128,
            "description": "Units a step; published: 32 to 128.",
        },
        "learning_rate": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 0.001,
            "description": "Of Adam, constant; published: 1e-5 and, for ensembles, 1e-4.",
        },
        "patience": {
            "type": "integer",
            "minimum": 1,
            "default": 10,
            "description": "Epochs without a lower validation loss after which training ends; the best weights stay.",
        },
        "precision": {
            "enum": ["auto", "bf16", "fp32"],
            "default": "auto",
            "description": "Of the layer; auto: bf16 on a GPU that multiplies it in hardware.",
        },
    },
)
