"""Random and spatial splits: sizes, folds that hold every cell out once, and the proof that windows do not meet."""

import numpy as np
import pandas as pd
import pytest

from shest.core.errors import InputError
from shest.labels import split

CONFIG = {"by": "block", "folds": 5, "block_um": 150, "fractions": {"test": 0.2, "val": 0.1}, "seed": 42}
FOLDS = [*map(str, range(5)), "all"]
WINDOW = (16.5, 16.5)


def tissue(n=6_000, side=1_500.0, seed=0, sample="a"):
    """Cells of three types, the second in one half only, the third in nests."""
    rng = np.random.default_rng(seed)
    xy = rng.random((n, 2)) * side
    kind = np.where((xy[:, 0] < side / 2) & (rng.random(n) < 0.5), "B", "A")
    kind[np.hypot(*(xy % 500 - 250).T) < 60] = "C"
    ids = [f"c{i}" for i in range(n)]
    return pd.DataFrame({"sample": sample, "id": ids, "x_um": xy[:, 0], "y_um": xy[:, 1], "cell_type": kind})


def folds_of(cells, folds=FOLDS, **config):
    reach = dict.fromkeys(cells["sample"].unique(), WINDOW)
    return {fold: split.split(cells, "strict", fold, reach, CONFIG | config)[0] for fold in folds}


def overlapping_pairs(xy, part, window):
    """Windows of different parts that meet, by brute force."""
    used = part != "gap"
    xy, part = xy[used], part[used]
    near = (np.abs(xy[:, None] - xy[None]) < np.array(window)).all(axis=2)
    return int((near & (part[:, None] != part[None])).sum())


def test_random_split_has_the_published_sizes():
    part = split.random_split(10_000, CONFIG["fractions"], 42)
    sizes = {name: int((part == name).sum()) for name in split.PARTS}
    assert sizes == {"train": 7200, "val": 800, "test": 2000, "gap": 0}
    assert (part == split.random_split(10_000, CONFIG["fractions"], 42)).all()
    assert (part != split.random_split(10_000, CONFIG["fractions"], 43)).any()


def test_every_cell_is_held_out_exactly_once():
    cells = pd.concat([tissue(3_000, 900.0), tissue(2_000, 700.0, 1, "b")], ignore_index=True)
    tables = folds_of(cells)
    tests = sum((tables[fold]["part"] == "test").to_numpy().astype(int) for fold in FOLDS[:-1])
    assert (tests == 1).all()
    assert not (tables["all"]["part"] == "test").any()
    assert (tables["all"]["part"] == "train").mean() > 0.7


def test_strict_windows_never_meet_in_any_fold():
    cells = tissue(3_000, 900.0)
    for fold, table in folds_of(cells).items():
        part = table["part"].to_numpy()
        assert {"train", "val", "gap"} <= set(part), fold
        assert overlapping_pairs(cells[["x_um", "y_um"]].to_numpy(), part, WINDOW) == 0


def test_random_windows_do_meet():
    """The check of the other tests is able to fail."""
    cells = tissue(3_000, 900.0)
    table, _ = split.split(cells, "paper", "0", {"a": WINDOW}, CONFIG)
    assert overlapping_pairs(cells[["x_um", "y_um"]].to_numpy(), table["part"].to_numpy(), WINDOW) > 1_000


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_of_like_size_and_drawn_at_random(seed):
    cells = tissue()
    tables = folds_of(cells, seed=seed)
    for fold in FOLDS[:-1]:
        assert (tables[fold]["part"] == "test").mean() == pytest.approx(0.2, abs=0.03)
        shares = (tables[fold]["part"] == "val").sum() / tables[fold]["part"].isin(["val", "train"]).sum()
        assert 0.05 < shares < 0.2
    other = folds_of(cells, ["0"], seed=seed + 10)["0"]
    assert ((other["part"] == "test") & (tables["0"]["part"] == "test")).sum() < 0.6 * (other["part"] == "test").sum()


def test_whole_blocks_are_held_out():
    tables = folds_of(tissue())
    for fold in FOLDS[:-1]:
        for _, members in tables[fold].groupby("group"):
            assert (members["part"] == "test").all() or not (members["part"] == "test").any()


def test_samples_and_patients_are_held_out_whole():
    rows = {"a": "p1", "b": "p1", "c": "p2", "d": None}
    cells = pd.concat([tissue(600, 500.0, i, name) for i, name in enumerate(rows)], ignore_index=True)
    by_sample = folds_of(cells, ["0", "1", "2", "3"], by="sample")
    held = [set(t.loc[t["part"] == "test", "sample"]) for t in by_sample.values()]
    assert sorted(map(sorted, held)) == [["a"], ["b"], ["c"], ["d"]]
    cells["patient"] = cells["sample"].map({k: v or k for k, v in rows.items()})
    by_patient = folds_of(cells, ["0", "1", "2"], by="patient")
    held = [set(t.loc[t["part"] == "test", "sample"]) for t in by_patient.values()]
    assert sorted(map(sorted, held)) == [["a", "b"], ["c"], ["d"]]
    again = folds_of(cells, ["0", "1", "2", "3"], by="sample")  # samples of one patient are held out one by one
    assert all(again[fold]["part"].equals(by_sample[fold]["part"]) for fold in again)
    for table in (*by_sample.values(), *by_patient.values()):
        assert (table["part"] == "val").any()
        assert (
            not table.loc[table["part"] == "test", "sample"].isin(table.loc[table["part"] == "train", "sample"]).any()
        )
    samples = {name: {"patient": patient} for name, patient in rows.items()}
    assert split.fold_names(CONFIG | {"by": "patient"}, samples) == ["0", "1", "2"]
    assert split.fold_names(CONFIG | {"by": "sample"}, samples) == ["0", "1", "2", "3"]
    assert split.fold_names(CONFIG, samples) == FOLDS[:-1]


def test_groups_are_dealt_by_size():
    fold = split.deal(np.array([50, 10, 10, 10, 10, 10]), 2, np.random.default_rng(0))
    large = fold[0]
    assert abs(np.array([50, 10, 10, 10, 10, 10])[fold == large].sum() - 50) <= 20
    assert set(fold) == {0, 1}


def test_blocks_are_drawn_until_they_are_enough_and_never_all():
    drawn = split.draw_blocks(np.full(20, 10), 0.1, np.random.default_rng(0))
    assert drawn.sum() == 2
    assert split.draw_blocks(np.array([5, 5]), 0.9, np.random.default_rng(0)).sum() == 1
    assert not split.draw_blocks(np.full(20, 10), 0.0, np.random.default_rng(0)).any()


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


def test_a_planted_leak_is_caught(monkeypatch):
    """A test window that is shifted into a training block: the split does not leave the house."""
    cells = tissue(3_000, 900.0)

    def leaking(xy, part, window):
        part = part.copy()
        part[np.flatnonzero(part == "test")[:1]] = "train"
        return part

    monkeypatch.setattr(split, "clear_gaps", leaking)
    with pytest.raises(InputError, match="meet windows of"):
        split.split(cells, "strict", "0", {"a": WINDOW}, CONFIG)


def test_small_samples_get_smaller_blocks():
    table, notes = split.split(tissue(120, 200.0), "strict", "0", {"a": WINDOW}, CONFIG | {"block_um": 400, "folds": 3})
    assert {"train", "val", "test"} <= set(table["part"])
    assert "instead of 400 µm" in notes[0]


def test_samples_are_split_each_for_itself():
    cells = pd.concat([tissue(2_000, 700.0, 1, "a"), tissue(900, 700.0, 2, "b")], ignore_index=True)
    cells = cells.sample(frac=1, random_state=0)  # the order of the rows does not matter
    table = folds_of(cells, ["1"])["1"]
    assert table["id"].tolist() == cells["id"].tolist()
    for name in "ab":
        own = (table["sample"] == name).to_numpy()
        alone = folds_of(cells[own], ["1"])["1"]
        assert alone["part"].tolist() == table["part"][own].tolist()
        assert {"train", "val", "test"} <= set(alone["part"])


def test_strict_split_repeats():
    first, again = (folds_of(tissue(), ["2"])["2"] for _ in range(2))
    pd.testing.assert_frame_equal(first, again)


def test_no_training_cells_are_refused():
    with pytest.raises(InputError, match="left to train on"):
        split.split(tissue(1, 10.0), "strict", "0", {"a": WINDOW}, CONFIG)


@pytest.mark.slow
def test_a_million_cells_are_split_in_a_minute():
    table = folds_of(tissue(1_000_000, 20_000.0), ["0"], block_um=250)["0"]
    assert (table["part"] == "train").mean() > 0.5
