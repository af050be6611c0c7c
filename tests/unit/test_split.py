"""Random and spatial splits: sizes, balance, and the proof that windows of different parts do not meet."""

import numpy as np
import pandas as pd
import pytest

from shest.core.errors import InputError
from shest.labels import split

CONFIG = {"block_um": 150, "fractions": {"test": 0.2, "val": 0.1}, "seed": 42}
WINDOW = (16.5, 16.5)


def tissue(n=6_000, side=1_500.0, seed=0, sample="a"):
    """Cells of three types, the second in one half only, the third in nests."""
    rng = np.random.default_rng(seed)
    xy = rng.random((n, 2)) * side
    kind = np.where((xy[:, 0] < side / 2) & (rng.random(n) < 0.5), "B", "A")
    kind[np.hypot(*(xy % 500 - 250).T) < 60] = "C"
    return pd.DataFrame(
        {
            "sample": sample,
            "cell_id": [f"c{i}" for i in range(n)],
            "x_um": xy[:, 0],
            "y_um": xy[:, 1],
            "cell_type": kind,
        }
    )


def overlapping_pairs(xy, part, window):
    """Windows of different parts that meet, by brute force."""
    held = part != "gap"
    xy, part = xy[held], part[held]
    near = (np.abs(xy[:, None] - xy[None]) < np.array(window)).all(axis=2)
    return int((near & (part[:, None] != part[None])).sum())


def test_random_split_has_the_published_sizes():
    part = split.random_split(10_000, CONFIG["fractions"], 42)
    assert {name: int((part == name).sum()) for name in split.PARTS} == {
        "train": 7200,
        "val": 800,
        "test": 2000,
        "gap": 0,
    }
    assert (part == split.random_split(10_000, CONFIG["fractions"], 42)).all()
    assert (part != split.random_split(10_000, CONFIG["fractions"], 43)).any()


def test_strict_windows_never_meet():
    cells = tissue(3_000, 900.0)
    table, _ = split.split(cells, "strict", {"a": WINDOW}, CONFIG)
    part = table["part"].to_numpy()
    assert {"train", "val", "test", "gap"} == set(part)
    assert overlapping_pairs(cells[["x_um", "y_um"]].to_numpy(), part, WINDOW) == 0


def test_random_windows_do_meet():
    """The check of the other tests is able to fail."""
    cells = tissue(3_000, 900.0)
    table, _ = split.split(cells, "paper", {"a": WINDOW}, CONFIG)
    assert overlapping_pairs(cells[["x_um", "y_um"]].to_numpy(), table["part"].to_numpy(), WINDOW) > 1_000


@pytest.mark.parametrize("seed", range(3))
def test_strict_parts_are_balanced_by_class(seed):
    cells = tissue(seed=seed)
    table, _ = split.split(cells, "strict", {"a": WINDOW}, CONFIG)
    shares = pd.crosstab(cells["cell_type"], table["part"], normalize="index")
    assert shares["test"].between(0.15, 0.25).all()
    assert shares["val"].between(0.03, 0.13).all()


def test_test_cells_stay_and_training_cells_give_way():
    xy = np.array([[0.0, 0], [10, 0], [30, 0], [40, 0], [100, 0]])
    part = np.array(["test", "train", "val", "train", "train"])
    assert split.clear_gaps(xy, part, (16, 16)).tolist() == ["test", "gap", "val", "gap", "train"]


def test_validation_cells_give_way_to_test_cells():
    xy = np.array([[0.0, 0], [10, 0], [24, 0]])
    cleared = split.clear_gaps(xy, np.array(["test", "val", "train"]), (16, 16))
    assert cleared.tolist() == ["test", "gap", "train"]  # the training cell only met a cell that is set aside


@pytest.mark.parametrize(
    ("x", "y", "meets"), [(15.9, 9.9, True), (16.0, 0.0, False), (0.0, 10.0, False), (-15.9, 0.0, True)]
)
def test_windows_meet_only_if_both_axes_overlap(x, y, meets):
    assert split.meets(np.array([[x, y]]), np.zeros((1, 2)), (16, 10)).item() is meets


def test_check_disjoint_refuses_an_overlap():
    xy = np.array([[0.0, 0], [10, 5]])
    split.check_disjoint(xy, np.array(["train", "gap"]), (16, 16))
    for one, other in (("train", "test"), ("val", "test"), ("train", "val")):
        with pytest.raises(InputError, match=f"1 {one} cells meet windows of {other}"):
            split.check_disjoint(xy, np.array([one, other]), (16, 16))


def test_small_samples_get_smaller_blocks():
    cells = tissue(120, 200.0)
    table, notes = split.split(cells, "strict", {"a": WINDOW}, CONFIG | {"block_um": 400})
    assert {"train", "val", "test"} <= set(table["part"])
    assert "instead of 400 µm" in notes[0]


def test_samples_are_split_each_for_itself():
    cells = pd.concat([tissue(2_000, 700.0, 1, "a"), tissue(900, 700.0, 2, "b")], ignore_index=True)
    cells = cells.sample(frac=1, random_state=0)  # the order of the rows does not matter
    table, _ = split.split(cells, "strict", {"a": WINDOW, "b": WINDOW}, CONFIG)
    assert table["cell_id"].tolist() == cells["cell_id"].tolist()
    for name in "ab":
        own = (table["sample"] == name).to_numpy()
        alone, _ = split.split(cells[own], "strict", {name: WINDOW}, CONFIG)
        assert alone["part"].tolist() == table["part"][own].tolist()
        assert {"train", "val", "test"} <= set(alone["part"])


def test_strict_split_repeats():
    first, again = (split.split(tissue(), "strict", {"a": WINDOW}, CONFIG)[0] for _ in range(2))
    pd.testing.assert_frame_equal(first, again)


def test_no_training_cells_are_refused():
    with pytest.raises(InputError, match="left to train on"):
        split.split(tissue(1, 10.0), "strict", {"a": WINDOW}, CONFIG | {"fractions": {"test": 0.9, "val": 0.0}})


@pytest.mark.slow
def test_a_million_cells_are_split_in_a_minute():
    cells = tissue(1_000_000, 20_000.0)
    table, _ = split.split(cells, "strict", {"a": WINDOW}, CONFIG | {"block_um": 250})
    assert (table["part"] == "train").mean() > 0.5
