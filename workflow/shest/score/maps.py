"""How two maps of a gene over the same units agree: bivariate Moran, overlap of their high places, a spatial null."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from shest.score import kernels, metrics

SHIFTS = 5
CONSTANT = 1e-16  # variance, of the squared mean, that float64 leaves of values that are all alike
TIE = 1e-9  # relative: a map that is flat but for rounding is high nowhere


@dataclass
class MapSums:
    """What the scores of maps are made of, by spatial block and gene.

    Attributes
    ----------
    sums : (8, blocks, genes), of :func:`shest.score.kernels.maps`
    size : (blocks,) cells
    floor : (2, genes), sum of squares a cell below which the actual, or the predicted, values count as constant
    """

    sums: np.ndarray
    size: np.ndarray
    floor: np.ndarray

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        """Return sums (8, genes) and number over all blocks."""
        return self.sums.sum(axis=1), self.size.sum()

    def without(self) -> tuple[np.ndarray, np.ndarray]:
        """Return sums (8, blocks, genes) and numbers (blocks, 1) over all blocks but each."""
        return np.stack([metrics.leave_one_out(s) for s in self.sums]), metrics.leave_one_out(self.size)[:, None]


def map_sums(actual: np.ndarray, predicted: np.ndarray, nearest: np.ndarray, block: np.ndarray) -> MapSums:
    """Compare the maps of genes, (cells, genes) float32 each, in one pass over the neighbours (cells, k).

    ``block``: (cells,) int from 0. A block's sums are of its own cells, whose neighbours may lie in another; means are
    those of all cells.
    """
    actual, predicted = (np.ascontiguousarray(v, np.float32) for v in (actual, predicted))
    blocks, n = int(block.max()) + 1, len(block)
    means = [metrics.centre(v) for v in (actual, predicted)]
    # The mean of a smoothed map, without making it: each value counts once, and once for each cell it is next to.
    weight = (1 + np.bincount(nearest.ravel(), minlength=n)) / (nearest.shape[1] + 1) / n
    high = [kernels.weighted_sums(v, weight) for v in (actual, predicted)]
    high = [h + TIE * np.abs(h) for h in high]
    sums = kernels.maps(actual, predicted, *means, *high, nearest, block.astype(np.int64), blocks)
    floor = CONSTANT * np.square(means)
    return MapSums(np.moveaxis(sums, 1, 0), np.bincount(block, minlength=blocks), floor)


def morans_i(sums: np.ndarray, side: int) -> np.ndarray:
    """Moran's I of the actual (0) or the predicted (1) values out of sums (8, ...); NaN where they are constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[3 + side] > 0, sums[side] / sums[3 + side], np.nan)


def bivariate_moran(sums: np.ndarray, n: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Bivariate Moran's I out of sums (8, ...): each cell's prediction against what its neighbours measure.

    I = sum_i z(predicted)_i sum_j w_ij z(actual)_j / n, rows of w sum to 1 (Tan et al., STImage). 0 where a side is
    constant: nothing can be shown there.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found = sums[2] / np.sqrt(sums[3] * sums[4])
    return np.where((sums[3] > n * floor[0]) & (sums[4] > n * floor[1]), found, 0.0)


def overlap(sums: np.ndarray, n: np.ndarray) -> dict[str, np.ndarray]:
    """Intersection over union of the places where a gene is high, z > 0 of the map smoothed over neighbours.

    Returns
    -------
    dict
        ``iou_high``: of the high places, 0 where there are none; ``iou_chance``: what maps with the same shares of high
        places reach that know nothing of each other; ``iou_low``: of the low places, the index that STImage's code
        reports as its own.
    """
    actual, predicted, both = sums[5], sums[6], sums[7]
    either = actual + predicted - both
    with np.errstate(invalid="ignore", divide="ignore"):
        high = np.where(either > 0, both / either, 0.0)
        low = np.where(n > both, (n - either) / (n - both), 0.0)
        p, q = actual / n, predicted / n
        chance = np.where(p + q > 0, p * q / (p + q - p * q), 0.0)
    return {"iou_high": high, "iou_chance": chance, "iou_low": low}


def along(xy: np.ndarray) -> np.ndarray:
    """Order units (n, 2) so that neighbours in the order are neighbours in space: the leaves of a k-d tree."""
    return cKDTree(xy, leafsize=1).indices.astype(np.int64)


def shifts(n: int, number: int = SHIFTS) -> np.ndarray:
    """Return how far predictions are moved along the order of ``n`` units: sixths of it."""
    return np.unique(np.linspace(0, n, number + 2)[1:-1].astype(np.int64))


def null_correlations(
    actual: np.ndarray, predicted: np.ndarray, order: np.ndarray, moved: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Pearson's R where every unit gets the prediction of another, (shifts, genes): a null that keeps both maps smooth.

    Parameters
    ----------
    actual, predicted : (n, genes) float32
    order, moved : of :func:`along` and :func:`shifts`
    spread : (genes,) root of the product of both sums of squares about the mean; 0 where a side is constant
    """
    products = kernels.shifted_products(actual, predicted, metrics.centre(actual), order, moved)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, products / spread, 0.0)


def unit_sums(actual: np.ndarray, predicted: np.ndarray, in_logs: bool = False) -> np.ndarray:
    """Sum what R across genes needs of each unit: (n, genes) float32 -> (5, n); of log(1 + counts), or as they are.

    Counts below 0 are 0.
    """
    if in_logs:
        return kernels.unit_sums(actual, predicted)
    logs = [np.maximum(v, 0) for v in (actual, predicted)]
    return kernels.unit_sums(*(np.log1p(v, out=v) for v in logs))


def unit_correlations(sums: np.ndarray, genes: int) -> np.ndarray:
    """Pearson's R across genes within each unit, out of sums (5, n) of ``unit_sums`` -> (n,); 0 where constant."""
    return metrics.pearson_from_sums(np.concatenate([np.full((1, sums.shape[1]), float(genes)), sums]))
