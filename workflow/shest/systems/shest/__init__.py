"""The paper's system: two heads, for types and for expression, on one encoder's embeddings."""

from shest.systems.base import SystemSpec

SPEC = SystemSpec(
    "shest.systems.shest.system:Shest",
    train_keys=(
        "views",
        "draws",
        "members",
        "seed",
        "epochs",
        "batch",
        "learning_rate",
        "weight_decay",
        "patience",
        "dropout",
        "classifier_hidden",
        "reconstructor_hidden",
        "precision",
    ),
)
