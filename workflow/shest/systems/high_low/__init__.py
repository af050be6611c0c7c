"""The classifier of Tan et al. 2026 (STImage): whether a gene is high in a unit, by elastic-net logistic regression."""

from shest.systems.base import SystemSpec

SPEC = SystemSpec(
    "shest.systems.high_low.system:HighLow",
    units=("cells", "spots"),
    train_keys=("seed",),
    settings={
        "strength": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 0.1,
            "description": "scikit-learn's C, the inverse of the penalty; published: 0.1.",
        },
        "l1_ratio": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.5,
            "description": "Share of the absolute values in the penalty, beside the squares; published: 0.5.",
        },
        "iterations": {
            "type": "integer",
            "minimum": 1,
            "default": 1000,
            "description": "Most steps of the solver, all units each; published: 10,000 passes of saga.",
        },
    },
)
