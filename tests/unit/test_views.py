"""Class-balanced draws, and the encoder passes that they cost."""

import numpy as np
import pytest

from shest.labels import orientations

LABELS = np.repeat([0, 1, 2], [100, 30, 5])


def test_every_class_is_drawn_equally_often():
    cells, turned = orientations.balanced_draws(LABELS, 120, seed=1)
    assert np.bincount(LABELS[cells]).tolist() == [40, 40, 40]
    assert sorted(set(turned)) == list(range(8))


def test_large_classes_are_cut_and_small_ones_repeated_evenly():
    cells, _ = orientations.balanced_draws(LABELS, 120, seed=1)
    times = np.bincount(cells, minlength=len(LABELS))
    assert times[:100].max() == 1
    assert set(times[100:130]) == {1, 2}
    assert set(times[130:]) == {8}


def test_draws_repeat_with_the_seed_only():
    first, again, other = (orientations.balanced_draws(LABELS, 50, seed)[0] for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_remainder_goes_to_the_first_classes():
    assert np.bincount(LABELS[orientations.balanced_draws(LABELS, 122, 0)[0]]).tolist() == [41, 41, 40]


@pytest.mark.parametrize("kind", ["1", 1])
def test_identity_views_only(kind):
    cells, turned = orientations.epoch_draws(LABELS, kind, 5, 0)
    assert len(cells) == len(LABELS)
    assert not turned.any()
    assert (orientations.epoch_draws(LABELS, kind, 5, 1)[0] != cells).any()


def test_natural_draws_take_every_cell_once_in_an_order_of_their_own():
    (first, turned), (second, _) = (orientations.epoch_draws(LABELS, 8, 5, epoch, "natural") for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(len(LABELS)))
    assert (first != second).any()
    assert set(turned) == set(range(8))
    assert not orientations.epoch_draws(LABELS, 1, 5, 0, "natural")[1].any()


def test_the_authors_draw_of_each_class_as_many_as_the_middle_one_has():
    authors = np.repeat(range(6), [8_406, 15_665, 6_716, 13_965, 18_714, 78_484])
    cells, views = orientations.authors_draws(authors, 42)
    assert set(np.bincount(authors[cells])) == {15_665}, "12,554 is four fifths of it, the authors' training part"
    assert set(views) == set(range(8))


def test_sampled_draws_are_the_same_in_every_epoch_but_for_their_order():
    pairs = [sorted(zip(*orientations.epoch_draws(LABELS, "sampled", 5, epoch), strict=True)) for epoch in (0, 7)]
    assert pairs[0] == pairs[1]
    assert (
        orientations.epoch_draws(LABELS, "sampled", 5, 0)[0] != orientations.epoch_draws(LABELS, "sampled", 5, 7)[0]
    ).any()


@pytest.mark.parametrize("kind", ["sampled", 8])
def test_the_plan_holds_all_that_training_asks_for(kind):
    planned = set(zip(*orientations.plan(LABELS, kind, 5), strict=True))
    asked = {pair for epoch in range(5) for pair in zip(*orientations.epoch_draws(LABELS, kind, 5, epoch), strict=True)}
    assert {pair for pair in asked if pair[1] > 0} <= planned
    assert all(view > 0 for _, view in planned)


def test_nothing_is_planned_for_identity_or_an_invariant_encoder():
    assert len(orientations.plan(LABELS, 1, 5)[0]) == len(orientations.plan(LABELS, 8, 5, invariant=True)[0]) == 0


def test_passes_of_the_authors_run():
    passes = orientations.count_passes(cells=141_950, train=113_560, test=28_390, drawn=6 * 12_554)
    assert passes == {"authors": 4_148_560, "once": 141_950, "sampled": 103_714, "all": 936_870}
