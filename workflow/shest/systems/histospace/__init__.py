"""HistoSPACE: an autoencoder learns tissue without labels, a small predictor expression on its frozen encoder."""

from collections.abc import Mapping
from typing import Any

from shest.systems.base import SystemSpec
from shest.systems.patch_settings import seconds, stain_settings, training_settings

GFLOP = 0.2, 0.9  # of a patch of 128 px, forwards: encoder and head, autoencoder


def fit_seconds(settings: Mapping[str, Any], threads: int, gpu: bool) -> float:
    """Estimate how long a fit takes, s."""
    epochs = settings["epochs"], settings["ae_epochs"]
    return sum(seconds(gflop, 128, n, settings, threads, gpu) for gflop, n in zip(GFLOP, epochs, strict=True))


SETTINGS = training_settings(88, 128, epochs=50, batch=32, learning_rate=1e-4)
SPEC = SystemSpec(
    "shest.systems.histospace.system:HistoSpace",
    reads="patches",
    units=("cells", "spots"),
    fit_seconds=fit_seconds,
    train_keys=("seed",),
    settings=SETTINGS
    | stain_settings("macenko")
    | {
        "px": SETTINGS["px"] | {"multipleOf": 16},
        "autoencoder": {
            "enum": ["AE1", "AE2", "AE3"],
            "default": "AE3",
            "description": "Layers of the encoder. AE1: convolution and pooling; AE2: with ReLU; AE3: with batch "
            "normalisation too.",
        },
        "ae_epochs": {
            "type": "integer",
            "minimum": 1,
            "default": 150,
            "description": "Passes of the autoencoder over the training patches, without labels.",
        },
        "ae_batch": {"type": "integer", "minimum": 2, "default": 256, "description": "Its patches at once."},
        "ae_learning_rate": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 1e-5,
            "description": "Its learning rate, of Adam.",
        },
        "loss": {
            "enum": ["mse", "rmse", "huber"],
            "default": "mse",
            "description": "Of expression; huber: linear beyond 1.",
        },
        "max_zeros": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "default": 1,
            "description": "Share of zeros, over training units, below which a gene is learnt, and over these genes "
            "below which a unit is learnt from; 1: all genes and units.",
        },
        "as_published": {
            "type": "boolean",
            "default": False,
            "description": "As the published code ran: the decoder ends in 0 to 1 where pixels are -1 to 1, the frozen "
            "encoder's batch normalisation goes on moving, no start from the mean expression, max_zeros 0.5 "
            "unless it is given.",
        },
    },
)
