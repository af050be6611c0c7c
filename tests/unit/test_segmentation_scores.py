"""Scores of a segmentation, against their definitions written out over pixels and permutations."""

from itertools import permutations

import numpy as np
import pytest
import shapely
from scipy import ndimage

from shest.score import segmentation
from shest.tissue.overlaps import overlaps_of_labels, quality


def random_labels(rng, side=40):
    """A label map of blobs, with gaps in its numbers."""
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.5)
    labels = ndimage.label(noise > rng.uniform(0.02, 0.2))[0]
    return labels * 3


def masks(labels):
    return [labels == k for k in np.unique(labels) if k]


def plain_scores(reference, found):
    """Dice, Jaccard, AJI, F1 and PQ by loops over boolean masks."""
    a, b = masks(reference), masks(found)
    union = [sum(part, np.zeros(reference.shape, bool)) > 0 for part in (a, b)]
    dice = 2 * (union[0] & union[1]).sum() / (union[0].sum() + union[1].sum())
    jaccard = (union[0] & union[1]).sum() / (union[0] | union[1]).sum()
    above, united, used = 0, 0, set()
    for one in a:
        values = [(one & other).sum() / (one | other).sum() for other in b]
        k = int(np.argmax(values)) if values else -1
        if k < 0 or values[k] == 0:
            united += one.sum()
            continue
        above, united = above + (one & b[k]).sum(), united + (one | b[k]).sum()
        used.add(k)
    united += sum(other.sum() for k, other in enumerate(b) if k not in used)
    good = [v for one in a for other in b if (v := (one & other).sum() / (one | other).sum()) > 0.5]
    f1 = len(good) / (len(good) + (len(a) - len(good)) / 2 + (len(b) - len(good)) / 2)
    pq = sum(good) / (len(good) + (len(a) - len(good)) / 2 + (len(b) - len(good)) / 2)
    return dice, jaccard, above / united, f1, pq


@pytest.mark.parametrize("seed", range(12))
def test_label_maps_are_scored_as_the_definitions_say(seed):
    rng = np.random.default_rng(seed)
    reference = random_labels(rng)
    found = np.roll(reference, rng.integers(0, 4, 2), axis=(0, 1)) if seed % 2 else random_labels(rng)
    found = np.where(rng.random(found.shape) < 0.05, 0, found)
    overlaps = overlaps_of_labels(reference, found)
    found_alike = quality(overlaps)
    areas = (score(overlaps) for score in (segmentation.dice, segmentation.jaccard, segmentation.aji))
    scores = *areas, found_alike["f1"], found_alike["pq"]
    assert scores == pytest.approx(plain_scores(reference, found), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_pairs_are_as_many_and_as_close_as_the_best_of_all_permutations(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 6, (5, 2)), rng.uniform(0, 6, (6, 2))
    b[0] = a[0]  # a distance of zero is a pair too
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)
    best = (0, 0.0)
    for order in permutations(range(6), 5):
        near = [distance[i, j] for i, j in enumerate(order) if distance[i, j] <= 2.5]
        best = max(best, (len(near), -sum(near)))
    i, j = segmentation.pair(a, b, 2.5)
    assert len(set(i)) == len(set(j)) == len(i)
    assert (len(i), -distance[i, j].sum()) == pytest.approx(best)


def test_pairing_takes_more_pairs_where_the_nearest_first_would_lose_one():
    reference, found = np.array([[0.0, 0], [2, 0]]), np.array([[1.2, 0], [4.4, 0]])
    i, j = segmentation.pair(reference, found, 2.5)
    assert (list(i), list(j)) == ([0, 1], [0, 1])
    assert segmentation.detection(reference, found, 2.5) == {"pairs": 2, "precision": 1, "recall": 1, "f1": 1}
    assert segmentation.detection(reference, found[:0], 3) == {"pairs": 0, "precision": None, "recall": 0, "f1": 0}


def discs(rng, n, side):
    return shapely.buffer(shapely.points(rng.uniform(0, side, (n, 2))), rng.uniform(5, 12, n))


def test_outlines_are_scored_as_their_label_maps_across_squares(monkeypatch):
    rng = np.random.default_rng(1)
    monkeypatch.setattr(segmentation, "BLOCK_PX", 64)
    sets = [discs(rng, 90, 300), discs(rng, 120, 300)]
    drawn = [segmentation._draw(shapely.STRtree(outlines), (0, 0, 330, 330)) for outlines in sets]
    region = shapely.box(-0.5, -0.5, 199.5, 149.5)
    by_outline = segmentation.overlaps_of_outlines(*sets, region)
    by_label = overlaps_of_labels(*(labels[:150, :200] for labels in drawn))
    assert segmentation.dice(by_outline) == segmentation.dice(by_label) > 0.1
    assert segmentation.aji(by_outline) == segmentation.aji(by_label)
    assert quality(by_outline) == quality(by_label)


def test_a_score_says_what_was_moved_split_and_missed():
    places = np.array([[50, 50], [150, 50], [250, 50], [50, 350]])
    reference = shapely.buffer(shapely.points(places), 16)
    moved = shapely.transform(reference, lambda xy: xy + np.array([8, 0]))  # 2 µm of a radius of 4
    found = np.concatenate([moved[:2], shapely.buffer(shapely.points([[600, 600]]), 16)])
    scores = segmentation.score(reference, found, (0.25, 0.25), block_um=75)
    assert (scores["reference"], scores["found"]) == (4, 3)
    assert scores["detection"]["3"] == {"pairs": 2, "precision": 2 / 3, "recall": 0.5, "f1": 4 / 7}
    assert scores["iou_0.5"]["f1"] == 4 / 7
    theta = 2 * np.arccos(0.25)  # the lens of two circles half a radius apart
    assert scores["dice"] == pytest.approx(2 * 2 * (theta - np.sin(theta)) / (7 * np.pi), abs=0.01)
    assert scores["count_ratio"] == {"all": 0.75, "blocks": 2, "p10": 0.1 * 2 / 3, "p50": 1 / 3, "p90": 0.6}
    only = segmentation.score(reference, found, (0.25, 0.25), shapely.box(0, 0, 200, 200))
    assert (only["reference"], only["found"], only["detection"]["3"]["f1"]) == (2, 2, 1)


def test_no_nuclei_at_all_have_no_score():
    nothing = np.empty(0, dtype=object)
    scores = segmentation.score(nothing, nothing, (0.25, 0.25))
    assert scores["dice"] is scores["aji"] is scores["iou_0.5"]["pq"] is scores["detection"]["3"]["f1"] is None
