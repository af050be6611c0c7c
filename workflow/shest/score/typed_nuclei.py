"""Nuclei that were found and typed, against a reference with types: F_d and F_c of HoVer-Net (Graham et al. 2019)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

HOVERNET = (2.0, 2.0, 1.0, 1.0)
STIMAGE = (1.0, 1.0, 1.0, 1.0)
"""Weights of a pair of a wrong type on the side of the type that was called, and of the one that it is; of a found
nucleus that is none, and of one that was not found: as HoVer-Net and as STImage have them."""


def score(
    actual: np.ndarray,
    called: np.ndarray,
    missed: np.ndarray,
    extra: np.ndarray,
    types: Sequence[str],
    weights: Sequence[float] = HOVERNET,
) -> dict[str, Any]:
    """Score found nuclei, paired one to one with those of the reference.

    Parameters
    ----------
    actual, called
        (k,) types of the pairs, by the reference and as found; a name that is no type counts as called wrongly.
    missed
        (a,) types of nuclei of the reference without a partner.
    extra
        (b,) types of found nuclei without a partner.
    types
        That are scored.
    weights
        Of errors of F_c, four; see :data:`HOVERNET`.

    Returns
    -------
    dict
        ``f_d``: F1 of finding nuclei, of whatever type; ``f_c``: by type, F1 of finding nuclei of it and calling them
        so; None for what is nowhere. As in HoVer-Net's code, pairs of which neither side is of the type do not count
        for it.
    """
    actual, called, missed, extra = (np.asarray(names, dtype=object) for names in (actual, called, missed, extra))

    def f1(hits: int, errors: float) -> float | None:
        return 2 * hits / (2 * hits + errors) if hits or errors else None

    f_c = {}
    for name in types:
        is_, said = actual == name, called == name
        wrong = (said & ~is_).sum(), (is_ & ~said).sum(), (extra == name).sum(), (missed == name).sum()
        f_c[name] = f1(int((is_ & said).sum()), float(np.dot(weights, wrong)))
    return {"f_d": f1(len(actual), len(missed) + len(extra)), "f_c": f_c, "weights": [float(w) for w in weights]}
