"""Training, validation and test cells: a random split as published, or folds whose windows do not meet.

No torch here: the random split uses NumPy's generator with the published seed, 42; the authors used torch's, so
that the parts are of the same sizes but hold other cells.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from shest.core.errors import InputError

PARTS = ("train", "val", "test", "gap")
ALL = "all"  # the fold of which nothing is held out but val
BLOCKS_A_FOLD = 3  # at least
HALVINGS = 6  # at most this often are blocks halved where a sample is too small for them
COLUMNS = ["sample", "id", "part", "block", "group", "cell_type", "unit"]


def random_split(n: int, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Assign cells to parts at random.

    Parameters
    ----------
    n
        Number of cells.
    fractions
        ``test``: share of all cells; ``val``: share of the others.
    seed
        Of NumPy's generator.

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


def deal(sizes: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal groups to folds at random, (groups,) numbers of cells -> (groups,) int.

    In a random order, each goes to the fold with the fewest cells so far: folds are balanced by size, and no
    arrangement is looked for that would suit the classes.
    """
    fold, total, members = np.empty(len(sizes), np.int64), np.zeros(folds), np.zeros(folds, np.int64)
    for group in rng.permutation(len(sizes)):
        fold[group] = np.lexsort((members, total))[0]
        total[fold[group]] += sizes[group]
        members[fold[group]] += 1
    return fold


def draw_blocks(sizes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw blocks at random until they hold a share of all cells, (blocks,) -> (blocks,) bool; never all of them."""
    order = rng.permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    drawn = np.zeros(len(sizes), bool)
    drawn[order[before < share * sizes.sum()]] = share > 0
    drawn[order[-1]] = False
    return drawn


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


def blocks_of(xy_um: np.ndarray, side_um: float) -> np.ndarray:
    """Name the square that each point lies in, (n, 2) µm -> (n,) str, row and column of a grid."""
    return np.array([f"{row}_{column}" for column, row in np.floor(xy_um / side_um).astype(np.int64)], dtype=object)


def fold_parts(block: np.ndarray, fold_of: pd.Series | None, fold: str, val: float, seed: Sequence[int]) -> np.ndarray:
    """Assign the cells of one sample to train, val and test in one fold, before any gap.

    Parameters
    ----------
    block
        (n,) str.
    fold_of
        Fold by block; None where the sample is wholly trained on in this fold.
    fold
        A number, or ``all``.
    val
        Share of the training cells.
    seed
        Of the draw of validation blocks, with the fold.
    """
    part = np.full(len(block), "train", dtype="<U5")
    if fold_of is not None and fold != ALL:
        part[fold_of.reindex(block).to_numpy() == int(fold)] = "test"
    names, which, sizes = np.unique(block[part == "train"], return_inverse=True, return_counts=True)
    if len(names) > 1:
        number = -1 if fold == ALL else int(fold)
        drawn = draw_blocks(sizes, val, np.random.default_rng([*seed, number + 1]))
        part[np.flatnonzero(part == "train")[drawn[which]]] = "val"
    return part


def block_folds(
    xy_um: np.ndarray,
    block_um: float,
    reach_um: tuple[float, float],
    folds: int,
    val: float,
    seed: Sequence[int],
    least_um: float = 0.0,
) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    """Divide one sample into folds of whole spatial blocks.

    Blocks are halved while there are fewer than three a fold, or a fold has a part without cells: a small sample has
    too few blocks to deal.

    Parameters
    ----------
    xy_um
        (n, 2) window centres along the image's axes, µm.
    block_um
        Side of a block.
    reach_um
        Width and height of a window, rounding of its place included.
    folds, val, seed
        How many; share of the training cells; of the draws.
    least_um
        What blocks are not made smaller than: another unit that is laid on them needs it.

    Returns
    -------
    parts
        By fold, ``all`` among them: (n,) str.
    block
        (n,) str, row and column of the cell's block.
    side
        Side of the blocks that were used, µm.
    """
    side = float(block_um)
    for _ in range(1 + HALVINGS):
        block = blocks_of(xy_um, side)
        names, sizes = np.unique(block, return_counts=True)
        fold_of = pd.Series(deal(sizes, folds, np.random.default_rng(seed)), index=names)
        parts = {
            fold: clear_gaps(xy_um, fold_parts(block, fold_of, fold, val, seed), reach_um)
            for fold in [*map(str, range(folds)), ALL]
        }
        wanted = {"train", *(["val"] if val > 0 else [])}
        whole = all(wanted | ({"test"} if fold != ALL else set()) <= set(part) for fold, part in parts.items())
        if (whole and len(names) >= BLOCKS_A_FOLD * folds) or side / 2 < max(2 * max(reach_um), least_um):
            break
        side /= 2
    return parts, block, side


def fold_names(config: dict, samples: dict[str, dict]) -> list[str]:
    """Return the folds in which cells are held out, of the ``strict`` protocol.

    Parameters
    ----------
    config
        Section ``split``: ``by``, ``folds``.
    samples
        Rows of the training samples by name, with ``patient``.
    """
    number = config["folds"]
    if config["by"] != "block":
        number = min(number, len({group_of(name, row, config["by"]) for name, row in samples.items()}))
    return [str(fold) for fold in range(number)]


def group_of(sample: str, row: dict, by: str) -> str:
    """Return what is held out together with a sample: itself, or its patient, who may be the sample itself."""
    return (row.get("patient") or sample) if by == "patient" else sample


def split(
    cells: pd.DataFrame,
    protocol: str,
    fold: str,
    reach_um: dict[str, tuple[float, float]],
    config: dict,
    spots: pd.DataFrame | None = None,
    spot_reach_um: dict[str, tuple[float, float]] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Assign every labelled cell, and every kept spot, of the training samples to a part, in one fold.

    Spots of a sample that has cells lie on the blocks of its cells, so that systems of both are scored on the same
    tissue; each unit keeps the distance that its own windows need.

    Parameters
    ----------
    cells
        sample, id, x_um, y_um (window centres along the H&E's axes), cell_type; patient where it is split by that.
    protocol
        ``paper``: at random over all cells; ``strict``: by spatial blocks, samples or patients.
    fold
        Of ``strict``: a number, or ``all``: nothing is held out but val.
    reach_um
        Width and height of a window of each sample, rounding of its place to pixels included.
    config
        Section ``split``: ``by``, ``folds``, ``block_um``, ``fractions`` (``test``: share of all, ``paper`` alone;
        ``val``: share of the rest), ``seed``.
    spots, spot_reach_um
        The same of spots, without types.

    Returns
    -------
    table
        :data:`COLUMNS`, in the order of ``cells``, then of ``spots``; ``block`` and ``group``, what is held out
        together, are empty in ``paper``.
    notes
        Sentences about what a reader should know.

    Raises
    ------
    InputError
        No training cells remain, or windows of different parts meet.
    """
    cells = cells.assign(unit="cells")
    spots = cells[:0] if spots is None else spots.assign(unit="spots", cell_type=None)
    spot_reach = spot_reach_um or {}
    laid = spots["sample"].isin(cells["sample"])
    leading = pd.concat([units for units in (cells, spots[~laid]) if len(units)], ignore_index=True)
    groups = dict(zip(leading["sample"], leading["patient" if config["by"] == "patient" else "sample"], strict=True))
    held_out = hold_out(leading["sample"], groups, config) if config["by"] != "block" and protocol != "paper" else {}
    least = {sample: 2 * max(spot_reach[sample]) for sample in spots.loc[laid, "sample"].unique()}
    parts, notes = [], []
    for units, reach in ((cells, reach_um), (spots[~laid], spot_reach)):
        if len(units):
            table, more = _split(units, protocol, fold, reach, config, least, groups, held_out)
            parts.append(table)
            notes += more
    for sample, units in spots[laid].groupby("sample", sort=False):
        own, places = parts[0][parts[0]["sample"] == sample], cells[cells["sample"] == sample]
        parts.append(_follow(units, own, places, protocol, fold, spot_reach[sample], config))
    table = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    if not (table["part"] == "train").any():
        raise InputError(
            "split",
            f"none of {len(table)} labelled cells and kept spots of the training samples is left to train on",
            "Give more of them, or lower split.block_um, split.folds or split.fractions",
        )
    return table, notes


def _follow(
    spots: pd.DataFrame,
    own: pd.DataFrame,
    cells: pd.DataFrame,
    protocol: str,
    fold: str,
    reach: tuple[float, float],
    config: dict,
) -> pd.DataFrame:
    """Lay the spots of a sample on the blocks of its cells.

    A spot belongs to the nearest cell's block, and so to its part before any gap, which is that of the block's cells
    that are in none.

    Parameters
    ----------
    spots
        sample, id, x_um, y_um, unit, cell_type.
    own
        What :func:`split` says of the sample's cells.
    cells
        Their places, in the same order.
    """
    spots = spots.reset_index(drop=True)
    table = spots[["sample", "id", "cell_type", "unit"]].assign(part="", block="", group="")
    if protocol == "paper":
        return table.assign(part=random_split(len(table), config["fractions"], config["seed"]))[COLUMNS]
    xy, places = spots[["x_um", "y_um"]].to_numpy(float), cells[["x_um", "y_um"]].to_numpy(float)
    nearest = cKDTree(places).query(xy)[1]
    table["block"], table["group"] = (own[name].to_numpy()[nearest] for name in ("block", "group"))
    of_block = own[own["part"] != "gap"].groupby("block")["part"].first()
    part = of_block.reindex(table["block"]).fillna("gap").to_numpy(str)
    if not (part == "test").all():
        part = clear_gaps(xy, part, reach)
        check_disjoint(xy, part, reach, where=f"split of {spots['sample'].iloc[0]}, spots")
    return table.assign(part=part)[COLUMNS]


def _split(
    cells: pd.DataFrame,
    protocol: str,
    fold: str,
    reach_um: dict[str, tuple[float, float]],
    config: dict,
    least_um: dict[str, float],
    groups: dict[str, str],
    held_out: dict[str, str],
) -> tuple[pd.DataFrame, list[str]]:
    """Split units of one kind, see :func:`split`.

    ``least_um``: of the blocks of a sample; ``groups``, ``held_out``: what it is held out with, and in which fold.
    """
    table = cells[["sample", "id", "cell_type", "unit"]].reset_index(drop=True).assign(part="", block="", group="")
    notes: list[str] = []
    if protocol == "paper":
        table["part"] = random_split(len(table), config["fractions"], config["seed"])
    else:
        for sample, members in cells.reset_index(drop=True).groupby("sample", sort=False):
            xy, reach = members[["x_um", "y_um"]].to_numpy(float), reach_um[sample]
            seed = [config["seed"], *str(sample).encode()]
            val = config["fractions"]["val"]
            if config["by"] == "block":
                parts, block, side = block_folds(
                    xy, config["block_um"], reach, config["folds"], val, seed, least_um.get(sample, 0.0)
                )
                part, group = parts[fold], np.array([f"{sample}/{name}" for name in block], dtype=object)
                notes += sample_notes(sample, part, side, config["block_um"], fold)
            else:
                block, group = blocks_of(xy, config["block_um"]), groups[sample]
                part = fold_parts(block, None, fold, val, seed)
                part = clear_gaps(xy, part, reach)
                if held_out.get(sample) == fold:
                    part[:] = "test"
            check_disjoint(xy, part, reach, where=f"split of {sample}")
            for column, values in (("part", part), ("block", block), ("group", group)):
                table.loc[members.index, column] = values
    return table[COLUMNS], notes


def hold_out(sample: pd.Series, groups: dict[str, str], config: dict) -> dict[str, str]:
    """Return the fold in which each sample is held out, whole groups (samples, patients) together."""
    sizes = sample.map(groups).value_counts().sort_index()
    folds = min(config["folds"], len(sizes))
    fold = dict(zip(sizes.index, deal(sizes.to_numpy(), folds, np.random.default_rng(config["seed"])), strict=True))
    return {name: str(fold[group]) for name, group in groups.items()}


def sample_notes(sample: str, part: np.ndarray, side: float, wanted: float, fold: str) -> list[str]:
    """Say where blocks were made smaller than configured, and where a part is empty."""
    notes = []
    if side < wanted:
        notes.append(f"{sample}: blocks of {side:g} µm instead of {wanted:g} µm, since the sample is small")
    empty = [name for name in PARTS[: 2 if fold == ALL else 3] if not (part == name).any()]
    if empty:
        notes.append(f"{sample}: no cells for {', '.join(empty)}: too few blocks")
    return notes


def fold_of_cells(cells: pd.DataFrame, splits: dict[str, pd.DataFrame]) -> np.ndarray:
    """Return the fold whose model predicts each kept cell of a training sample, labelled or not.

    A labelled cell is predicted by the fold that holds it out, one without a label as the nearest labelled cell is.

    Parameters
    ----------
    cells
        cell_id, x, y of all kept cells.
    splits
        Table of the sample by fold: id, part.
    """
    held_out = [table.loc[table["part"] == "test", "id"] for table in splits.values()]
    fold = pd.Series(
        np.repeat(list(splits), [len(ids) for ids in held_out]), index=np.concatenate(held_out), dtype=object
    )
    found = fold.reindex(cells["cell_id"]).to_numpy(dtype=object)
    known, xy = ~pd.isna(found), cells[["x", "y"]].to_numpy(float)
    if known.any() and not known.all():
        found[~known] = found[known][cKDTree(xy[known]).query(xy[~known])[1]]
    return found.astype(str) if known.any() else np.full(len(cells), next(iter(splits)))
