"""F_d and F_c equal the published code's steps, written out over nuclei one by one."""

import numpy as np
import pytest

from shest.score import typed_nuclei

TYPES = ["A", "B", "C"]


def plain(pairs, missed, extra, name, weights):
    """As compute_stats.py of HoVer-Net does: pairs of which neither side is of the type are left out first."""
    tp = tn = fp = fn = 0
    for true, pred in pairs:
        if true != name and pred != name:
            continue
        if true == name and pred == name:
            tp += 1
        elif pred == name:
            fp += 1
        else:
            fn += 1
    fp_d, fn_d = extra.count(name), missed.count(name)
    below = 2 * (tp + tn) + weights[0] * fp + weights[1] * fn + weights[2] * fp_d + weights[3] * fn_d
    return 2 * (tp + tn) / below if below else None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("weights", [typed_nuclei.HOVERNET, typed_nuclei.STIMAGE])
def test_scores_are_those_of_a_loop_over_nuclei(seed, weights):
    rng = np.random.default_rng(seed)
    n, a, b = rng.integers(1, 60, 3)
    actual, called = rng.choice(["A", "B"], n), rng.choice([*TYPES, "none"], n)
    missed, extra = (rng.choice(["A", "B"], k).tolist() for k in (a, b))
    found = typed_nuclei.score(actual, called, missed, extra, TYPES, weights)
    pairs = list(zip(actual, called, strict=True))
    for name in TYPES:
        assert found["f_c"][name] == pytest.approx(plain(pairs, missed, extra, name, weights))
    assert found["f_d"] == pytest.approx(2 * n / (2 * n + a + b))


def test_weights_matter_where_types_are_confused_and_nothing_is_none():
    one, other = (
        typed_nuclei.score(["A", "A"], ["A", "B"], [], [], TYPES, weights)["f_c"]
        for weights in (typed_nuclei.HOVERNET, typed_nuclei.STIMAGE)
    )
    assert (one["A"], other["A"]) == (2 / 4, 2 / 3)
    assert one["B"] == 0
    assert one["C"] is None
    assert typed_nuclei.score([], [], [], [], TYPES)["f_d"] is None
