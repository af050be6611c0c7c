"""Which nuclei drive a prediction: LIME (Ribeiro et al. 2016) on the project's own outlines, as STImage does it.

A window is seen many times with some of its nuclei hidden, and a linear model of what was hidden is fitted to what is
then predicted. Whatever predicts from RGB windows can be explained.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shest.core.errors import InputError
from shest.encode import runner
from shest.systems.base import Trained, unit_keys

SAMPLES, KERNEL, HIDDEN = 250, 0.25, 0  # windows seen, width of the kernel over cosine distances, colour of the hidden
DRAWS = 100  # of each window, for the probability to be high
BATCH = 32  # windows that are predicted at once
Predict = Callable[[np.ndarray], np.ndarray]  # windows uint8 (n, h, w, 3) to what is predicted (n, k)


def segments(outlines: Sequence[np.ndarray], origin: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    """Number the pixels of a window by the nucleus that they belong to.

    Parameters
    ----------
    outlines
        Rings (v, 2) of x and y, H&E px, pixel centres at integers.
    origin
        x and y of the window's first pixel, H&E px.
    shape
        Height and width of the window, px.

    Returns
    -------
    int64 (h, w): 0 on the ground, ``k`` + 1 in outline ``k``; where two overlap the later has the pixels.
    """
    from skimage.draw import polygon

    drawn = np.zeros(shape, np.int64)
    for number, ring in enumerate(outlines, start=1):
        x, y = (np.asarray(ring, float) - origin).T
        drawn[polygon(y, x, shape)] = number
    return drawn


def explain(window: np.ndarray, parts: np.ndarray, predict: Predict, seed: int, samples: int = SAMPLES) -> pd.DataFrame:
    """Say how much each nucleus of a window adds to what is predicted of it.

    As published: each part is hidden in half of the windows, in black; ridge regression (strength 1) on what is seen,
    weighed by an exponential kernel of the cosine distance to the whole window (package ``lime``).

    Parameters
    ----------
    window
        uint8 (h, w, 3).
    parts
        int64 (h, w): of :func:`segments`.
    predict
        Called with some windows at a time.
    seed
        Of what is hidden when.
    samples
        Windows that are predicted.

    Returns
    -------
    A row a part that has pixels (``index``: its number), a column for each thing predicted: weight, in its unit.
    """
    from lime.lime_image import LimeImageExplainer

    present, compact = np.unique(parts, return_inverse=True)
    values = predict(window[None]).shape[1]
    explainer = LimeImageExplainer(kernel_width=KERNEL, random_state=seed)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        found = explainer.explain_instance(
            window,
            predict,
            labels=range(values),
            top_labels=None,
            hide_color=HIDDEN,
            num_samples=samples,
            batch_size=BATCH,
            segmentation_fn=lambda image: compact.reshape(parts.shape),
            random_seed=seed,
        )
    return pd.DataFrame({value: dict(found.local_exp[value]) for value in range(values)}).sort_index().set_axis(present)


def expectation(model: Trained, encoder: Any, mask: np.ndarray, columns: Sequence[int]) -> Predict:
    """Return what predicts the expectation of some genes from windows of one unit, by a system on embeddings.

    Parameters
    ----------
    mask
        uint8 (1568,), the unit's own nucleus as its tile has it; it stays where the pixels are hidden.
    columns
        Places of the genes among the model's.
    """
    return lambda windows: model.system.predict(_embed(encoder, windows, mask)).expected[:, columns]


def probability_high(
    model: Trained, encoder: Any, mask: np.ndarray, columns: Sequence[int], mean: np.ndarray
) -> Predict:
    """Return what predicts the probability that a count passes its gene's ``mean`` (genes,) over the training units.

    It is the share of :data:`DRAWS` counts drawn from the predicted distribution, by the same keys for every window.
    """
    keys = unit_keys("explain", map(str, range(DRAWS)))

    def predict(windows: np.ndarray) -> np.ndarray:
        embedded = _embed(encoder, windows, mask)
        shares = []
        for one in embedded:
            drawn = model.system.draw(np.repeat(one[None], DRAWS, axis=0), keys)
            if drawn is None:
                problem = f"{model.info['kind']} predicts no distribution"
                raise InputError("explain", problem, "Explain the expectation of its genes")
            shares.append((drawn[:, columns] > mean).mean(axis=0))
        return np.array(shares)

    return predict


def _embed(encoder: Any, windows: np.ndarray, mask: np.ndarray) -> np.ndarray:
    masks = np.broadcast_to(mask, (len(windows), len(mask)))
    return runner.encode_cells(encoder, np.ascontiguousarray(windows), np.ascontiguousarray(masks), 0, lambda n: None)
