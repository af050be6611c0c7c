"""Training, validation and test cells: a random split as published, or spatial blocks whose windows do not meet.

No torch here: the random split uses NumPy's generator with the published seed, 42; the authors used torch's, so
that the parts are of the same sizes but hold other cells.
"""

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from shest.core.errors import InputError

PARTS = ("train", "val", "test", "gap")
SWEEPS = 20  # at most this many passes in which single blocks change their part
HALVINGS = 6  # at most this often are blocks halved where a sample is too small for them


def random_split(n: int, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Assign cells to parts at random.

    Parameters
    ----------
    n : number of cells
    fractions : ``test``: share of all cells; ``val``: share of the others
    seed : of NumPy's generator

    Returns
    -------
    (n,) str
    """
    order = np.random.default_rng(seed).permutation(n)
    tests = round(fractions["test"] * n)
    vals = round(fractions["val"] * (n - tests))
    part = np.full(n, "train", dtype="<U5")
    part[order[:tests]], part[order[tests : tests + vals]] = "test", "val"
    return part


def assign_blocks(counts: np.ndarray, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Assign blocks to train, val and test so that every class is shared out as the fractions say.

    The deviation of a class's share from the fraction, squared and summed over classes and parts, is made small:
    blocks are placed from the largest to the smallest, each where it helps most, then moved singly as long as
    that helps.

    Parameters
    ----------
    counts : (blocks, classes) cells
    fractions : ``test``: share of all; ``val``: share of the rest
    seed : decides between blocks of equal size

    Returns
    -------
    (blocks,) int, position in ``PARTS``
    """
    share = counts / np.maximum(counts.sum(axis=0), 1)
    test = fractions["test"]
    goal = np.array([(1 - test) * (1 - fractions["val"]), (1 - test) * fractions["val"], test])
    goal = goal[:, None] * (counts.sum(axis=0) > 0)
    held, part = np.zeros((3, counts.shape[1])), np.full(len(counts), -1)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    for _ in range(1 + SWEEPS):
        before = part.copy()
        for block in order:
            if part[block] >= 0:
                held[part[block]] -= share[block]
            # what placing the block in a part adds to the sum of squares
            cost = ((held + share[block] - goal) ** 2 - (held - goal) ** 2).sum(axis=1)
            part[block] = int(np.argmin(cost))
            held[part[block]] += share[block]
        if (part == before).all():
            break
    return part


def meets(xy: np.ndarray, others: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Tell which windows around ``xy`` overlap a window around one of ``others``.

    Parameters
    ----------
    xy, others : (n, 2), (m, 2) centres
    window : width and height, same unit; centres closer than it in both axes overlap

    Returns
    -------
    (n,) bool
    """
    if len(others) == 0 or len(xy) == 0:
        return np.zeros(len(xy), dtype=bool)
    scale = np.asarray(window, dtype=float)
    distance, _ = cKDTree(others / scale).query(xy / scale, p=np.inf, distance_upper_bound=1.0)
    return distance < 1.0


def clear_gaps(xy: np.ndarray, part: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Set cells aside (``gap``) until no window meets one of another part.

    Test cells stay; validation cells give way to them; training cells give way to both.
    """
    part = part.copy()
    for giving, taking in (("val", ["test"]), ("train", ["test", "val"])):
        rows = np.flatnonzero(part == giving)
        part[rows[meets(xy[rows], xy[np.isin(part, taking)], window)]] = "gap"
    return part


def check_disjoint(xy: np.ndarray, part: np.ndarray, window: tuple[float, float], where: str = "split") -> None:
    """Prove that no window of one part meets a window of another (cells of ``gap`` excepted).

    Raises
    ------
    InputError
        Some do: the scores would not be those of unseen tissue.
    """
    for one, other in (("train", "test"), ("val", "test"), ("train", "val")):
        bad = int(meets(xy[part == one], xy[part == other], window).sum())
        if bad:
            raise InputError(
                where,
                f"the windows of {bad} {one} cells meet windows of {other} cells",
                "This is an error of the split: please report it",
            )


def block_split(
    xy_um: np.ndarray, label: np.ndarray, block_um: float, window_um: tuple[float, float], fractions: dict, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Split one sample by spatial blocks.

    Blocks are halved, and the cells are assigned anew, while a part is left without cells: a small sample has
    too few blocks to share out.

    Parameters
    ----------
    xy_um : (n, 2) window centres along the image's axes, µm
    label : (n,) str
    block_um : side of a block
    window_um : width and height of a window, rounding of its place included
    fractions, seed : see :func:`assign_blocks`

    Returns
    -------
    part : (n,) str
    block : (n,) str, row and column of the cell's block
    side : side of the blocks that were used, µm
    """
    codes = pd.factorize(label, sort=True)[0]
    wanted = {"train"} | {name for name in ("val", "test") if fractions[name] > 0}
    side = float(block_um)
    for _ in range(1 + HALVINGS):
        square = np.floor(xy_um / side).astype(np.int64)
        occupied, which = np.unique(square, axis=0, return_inverse=True)
        counts = np.zeros((len(occupied), codes.max() + 1))
        np.add.at(counts, (which.ravel(), codes), 1)
        part = np.array(PARTS)[assign_blocks(counts, fractions, seed)][which.ravel()]
        part = clear_gaps(xy_um, part, window_um)
        if wanted <= set(part) or side / 2 < 2 * max(window_um):
            break
        side /= 2
    return part, np.array([f"{row}_{column}" for column, row in square]), side


def split(
    cells: pd.DataFrame, protocol: str, window_um: dict[str, tuple[float, float]], config: dict
) -> tuple[pd.DataFrame, list[str]]:
    """Assign every cell of the training samples to a part.

    Parameters
    ----------
    cells
        sample, cell_id, x_um, y_um (window centres along the H&E's axes), cell_type.
    protocol
        ``paper``: at random over all cells; ``strict``: by spatial blocks within each sample.
    window_um
        Width and height of a window of each sample, rounding of its place to pixels included.
    config
        ``block_um``, ``fractions`` (``test``: share of all; ``val``: share of the rest), ``seed``.

    Returns
    -------
    table : sample, cell_id, part (train, val, test, gap), block (empty in ``paper``), in the order of ``cells``
    notes : sentences about what a reader should know

    Raises
    ------
    InputError
        No training cells remain, or windows of different parts meet.
    """
    table = cells[["sample", "cell_id"]].reset_index(drop=True)
    notes: list[str] = []
    if protocol == "paper":
        table["part"], table["block"] = random_split(len(table), config["fractions"], config["seed"]), ""
    else:
        table["part"], table["block"] = "", ""
        for sample, group in cells.reset_index(drop=True).groupby("sample", sort=False):
            xy = group[["x_um", "y_um"]].to_numpy(float)
            part, block, side = block_split(
                xy,
                group["cell_type"].to_numpy(str),
                config["block_um"],
                window_um[sample],
                config["fractions"],
                config["seed"],
            )
            check_disjoint(xy, part, window_um[sample], where=f"split of {sample}")
            table.loc[group.index, "part"], table.loc[group.index, "block"] = part, block
            notes += sample_notes(sample, part, side, config["block_um"])
    if not (table["part"] == "train").any():
        raise InputError(
            "split",
            f"none of {len(table)} labelled cells of the training samples is left to train on",
            "Give more labelled cells, or lower split.block_um or split.fractions",
        )
    return table, notes


def sample_notes(sample: str, part: np.ndarray, side: float, wanted: float) -> list[str]:
    """Say where blocks were made smaller than configured, and where a part is empty."""
    notes = []
    if side < wanted:
        notes.append(f"{sample}: blocks of {side:g} µm instead of {wanted:g} µm, since the sample is small")
    empty = [name for name in PARTS[:3] if not (part == name).any()]
    if empty:
        notes.append(f"{sample}: no cells for {', '.join(empty)}: too few blocks")
    return notes


def part_counts(table: pd.DataFrame, cell_type: pd.Series) -> pd.DataFrame:
    """Cells by sample, type and part, for the report."""
    frame = table.assign(cell_type=cell_type.to_numpy())
    return frame.groupby(["sample", "cell_type", "part"], observed=True).size().rename("cells").reset_index()
