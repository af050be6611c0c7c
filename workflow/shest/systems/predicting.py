"""What a fitted system says of some units, as the file of predictions takes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shest.io import predictions
from shest.systems import uncertainty
from shest.systems.base import Trained


def predict_block(
    model: Trained, x: Any, keys: np.ndarray, classes: Sequence[str], columns: np.ndarray
) -> dict[str, np.ndarray]:
    """Predict some units; return what :func:`shest.io.predictions.write` takes.

    Parameters
    ----------
    x
        What was read of the units.
    keys
        (n,) of :func:`shest.systems.base.unit_keys`, by which counts are drawn.
    classes
        Types in the order of the columns of ``probability``; the model's own are among them.
    columns
        Places of the genes that are wanted among the model's.
    """
    found = model.system.predict(x)
    by_gene = {"expected": found.expected, "aleatoric": found.aleatoric, "epistemic": found.epistemic}
    named = {name: value[:, columns] for name, value in by_gene.items() if value is not None}
    if found.type_logits is not None:
        named |= uncertainty.describe(found.type_logits, model.info["temperature"])
        for name in ("probability", "uncalibrated"):
            wide = np.zeros((len(named[name]), len(classes)))
            wide[:, [classes.index(own) for own in model.classes]] = named[name]
            named[name] = wide
    named = {name: np.asarray(value, np.float32) for name, value in named.items()}
    drawn = model.system.draw(x, keys)
    return named if drawn is None else named | {predictions.DRAWN: drawn[:, columns]}
