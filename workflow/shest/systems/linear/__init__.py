"""Logistic and ridge regression on one encoder's embeddings: what a system on embeddings has to beat."""

from shest.systems.base import SystemSpec

SPEC = SystemSpec("shest.systems.linear.system:Linear", units=("cells", "spots"), train_keys=("seed",))
