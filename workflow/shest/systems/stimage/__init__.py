"""STImage (Tan et al. 2026): a negative binomial a gene on an encoder's embeddings, by an ensemble of seeds."""

from shest.systems.base import SystemSpec

SPEC = SystemSpec(
    "shest.systems.stimage.system:STImage",
    units=("cells", "spots"),
    train_keys=("seed",),
    settings={
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
        "standardise": {
            "type": "boolean",
            "default": True,
            "description": "Scale each feature by the training units' mean and deviation; not published.",
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
